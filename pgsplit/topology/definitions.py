"""What the primary is asked about a database's definitions, for the catalogue (`classify.catalogue`).

One row of JSON an object; `k` is its kind. Keys name objects: f a function, r a relation, t a type, i a function that
is used without being called by its name. PostgreSQL manual, chapter 53. The connection's search_path is pg_catalog.
"""

from __future__ import annotations

from typing import Final

USERS: Final = 16384            # OIDs below are the server's own (FirstNormalObjectId)

# The key of a type: of an array's elements, and of the relation of a row.
_TYPES: Final = f"""
  types as (
    select t.oid, case when coalesce(e.oid, t.oid) < {USERS} then null
      when coalesce(e.typtype, t.typtype) = 'c' then 'r' || coalesce(e.typrelid, t.typrelid)
      else 't' || coalesce(e.oid, t.oid) end as key
    from pg_type t left join pg_type e on e.oid = t.typelem and t.typcategory = 'A')"""
# Functions that are used without being called: the user's, and the server's own where they are not immutable.
_IMPLICIT: Final = f"""
  implicit as (
    select oid, 'i' || oid as key from pg_proc where oid >= {USERS} or (provolatile <> 'i' and prokind <> 'p'))"""
_OF_TYPES: Final = f"""
  of_types as (
    select oprleft as type, oprcode::oid as function from pg_operator where oprleft >= {USERS}
    union select oprright, oprcode::oid from pg_operator where oprright >= {USERS}
    union select castsource, castfunc from pg_cast where castsource >= {USERS} and castfunc <> 0
    union select casttarget, castfunc from pg_cast where casttarget >= {USERS} and castfunc <> 0
    union select amproclefttype, amproc::oid from pg_amproc where amproclefttype >= {USERS}
    union select amprocrighttype, amproc::oid from pg_amproc where amprocrighttype >= {USERS}
    union select rngtypid, f.oid from pg_range, unnest(array[rngcanonical::oid, rngsubdiff::oid]) as f (oid)
      where rngtypid >= {USERS} and f.oid <> 0
    union select t.oid, f.oid from pg_type t,
      unnest(array[typinput::oid, typoutput::oid, typreceive::oid, typsend::oid, typmodin::oid]) as f (oid)
      where t.oid >= {USERS} and f.oid >= {USERS})"""

FUNCTIONS: Final = f"""
with {_TYPES.strip()},{_IMPLICIT},
  ours as (
    select * from pg_proc p
    where (oid >= {USERS} or pronamespace <> 'pg_catalog'::regnamespace)
      and prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
      and pronamespace not in (select oid from pg_namespace where nspname like 'pg\\_temp\\_%')),
  of_types as (
    select p.oid, array_agg(distinct key) as keys
    from ours p, unnest(coalesce(proallargtypes, proargtypes::oid[]) || prorettype) as u (type)
    join types on types.oid = u.type where key is not null group by p.oid),
  of_aggregates as (
    select aggfnoid::oid as oid, array_agg(distinct key) as keys
    from pg_aggregate, unnest(array[aggtransfn::oid, aggfinalfn, aggcombinefn, aggserialfn, aggdeserialfn, aggmtransfn,
      aggminvtransfn, aggmfinalfn]) as u (function)
    join implicit on implicit.oid = u.function where aggfnoid >= {USERS} group by 1),
  extensions as (
    select objid as oid, min(extname::text) as name from pg_depend join pg_extension x on x.oid = refobjid
    where classid = 'pg_proc'::regclass and refclassid = 'pg_extension'::regclass and deptype = 'e' group by 1),
  internal as (
    select prosrc, array_agg(proname::text) as names from pg_proc
    where oid < {USERS} and prolang = (select oid from pg_language where lanname = 'internal')
      and prosrc in (select prosrc from ours) group by 1)
select json_build_object('k', 'f', 'oid', p.oid, 'name', proname, 'lang', lanname, 'volatility', provolatile,
  'aggregate', prokind = 'a', 'cursor', prorettype = 'refcursor'::regtype, 'ext', extensions.name,
  'body', case when lanname not in ('sql', 'plpgsql') then '' when p.prosrc <> '' then p.prosrc
    else pg_get_functiondef(p.oid) end,
  'defaults', pg_get_expr(proargdefaults, 0),
  'attribute', pronargs = 1 and exists (select from pg_type t where t.oid = proargtypes[0]
    and (t.typtype in ('c', 'p') or (t.typtype = 'd' and t.typbasetype >= {USERS}))),
  'built_in', proname in (select proname from pg_proc where pronamespace = 'pg_catalog'::regnamespace
    and oid < {USERS}),
  'same_as', internal.names,
  'uses', coalesce(of_types.keys, '{{}}') || coalesce(of_aggregates.keys, '{{}}'))::text
from ours p join pg_language l on l.oid = prolang left join of_types on of_types.oid = p.oid
  left join of_aggregates on of_aggregates.oid = p.oid left join extensions on extensions.oid = p.oid
  left join internal on lanname = 'internal' and internal.prosrc = p.prosrc"""
BUILT_IN: Final = f"""
with {_OF_TYPES.strip()}
select json_build_object('k', 'b', 'oid', oid, 'name', proname)::text from pg_proc
where oid < {USERS} and provolatile <> 'i' and (
  oid in (select function from of_types) or oid in (select oprcode::oid from pg_operator where oid >= {USERS})
  or oid in (select castfunc from pg_cast where oid >= {USERS})
  or oid in (select amproc::oid from pg_amproc where oid >= {USERS})
  or oid in (select f from pg_aggregate, unnest(array[aggtransfn::oid, aggfinalfn, aggcombinefn, aggmtransfn,
    aggminvtransfn, aggmfinalfn]) as f where aggfnoid >= {USERS}))"""
RELATIONS: Final = f"""
with {_TYPES.strip()}
select json_build_object('k', 'r', 'oid', c.oid, 'name', relname, 'kind', relkind, 'persistence', relpersistence,
  'body', case when relkind = 'v' then pg_get_viewdef(c.oid) end,
  'policies', case when relrowsecurity then array(select pg_get_expr(polqual, polrelid) from pg_policy
    where polrelid = c.oid and polcmd in ('r', '*') and polqual is not null) else array[]::text[] end,
  'uses', coalesce(keys, '{{}}'))::text
from pg_class c left join (
  select relation, array_agg(distinct key) as keys from (
    select attrelid as relation, key from pg_attribute join types on types.oid = atttypid
      where attnum > 0 and not attisdropped and atttypid >= {USERS} and key is not null
    union all select inhparent, 'r' || inhrelid from pg_inherits) as all_of
  group by relation) as used on used.relation = c.oid
where c.oid >= {USERS} and relkind in ('r', 'v', 'm', 'f', 'p', 'S', 'c') and relpersistence <> 't'"""
SYSTEM_RELATIONS: Final = f"""
select json_build_object('k', 's', 'name', relname)::text from pg_class
where oid < {USERS} and relkind in ('r', 'v', 'm', 'f', 'p') and relnamespace <> 'pg_toast'::regnamespace"""
TYPES: Final = f"""
with {_TYPES.strip()},{_IMPLICIT},{_OF_TYPES}
select json_build_object('k', 't', 'oid', t.oid, 'name', typname,
  'checks', array(select substr(pg_get_constraintdef(oid), 6) from pg_constraint
    where contypid = t.oid and contype = 'c'),
  'uses', coalesce(keys, '{{}}'))::text
from pg_type t left join (
  select type, array_agg(distinct key) as keys from (
    select type, implicit.key from of_types join implicit on implicit.oid = function
    union all select t.oid, key from pg_type t join types on types.oid = typbasetype where key is not null
    union all select rngtypid, key from pg_range join types on types.oid = rngsubtype where key is not null) as all_of
  group by type) as used on used.type = t.oid
where t.oid >= {USERS} and typtype in ('b', 'd', 'e', 'r', 'm') and not (typcategory = 'A' and typelem <> 0)"""
OPERATORS: Final = f"""
with {_IMPLICIT.strip()}
select json_build_object('k', 'o', 'oid', o.oid, 'name', oprname, 'uses', array[implicit.key])::text
from pg_operator o join implicit on implicit.oid = oprcode
where o.oid >= {USERS} and oprleft < {USERS} and oprright < {USERS}
union all
select json_build_object('k', 'a', 'name', 'cast', 'uses', array[implicit.key])::text
from pg_cast c join implicit on implicit.oid = castfunc
where c.oid >= {USERS} and castsource < {USERS} and casttarget < {USERS}
union all
select json_build_object('k', 'a', 'name', 'operator class', 'uses', array[implicit.key])::text
from pg_amproc a join implicit on implicit.oid = amproc
where a.oid >= {USERS} and amproclefttype < {USERS} and amprocrighttype < {USERS}"""
QUESTIONS: Final = (FUNCTIONS, BUILT_IN, RELATIONS, SYSTEM_RELATIONS, TYPES, OPERATORS)

# Grows with each change of a definition, whoever makes it: a second or so later, or up to ten where the session that
# made it does nothing more. Costs no scan.
CHANGES: Final = """
select sum(pg_stat_get_tuples_inserted(c) + pg_stat_get_tuples_updated(c) + pg_stat_get_tuples_deleted(c))
from unnest('{pg_proc,pg_class,pg_attribute,pg_type,pg_rewrite,pg_policy,pg_operator,pg_cast,pg_constraint,pg_inherits,
pg_amproc,pg_aggregate,pg_extension,pg_depend}'::regclass[]) as c"""
