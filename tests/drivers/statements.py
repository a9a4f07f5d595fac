"""Statements that several drivers' scripts have in common: one a line."""


def lines(text: str) -> list[str]:
    return text.strip("\n").split("\n")


# One value of each kind: what the driver makes of it tells the type and the format it was sent in.
VALUES = lines(r"""
1
2::int2
3::int8
1.5
'NaN'::numeric
1.5::float8
'infinity'::float8
0.1::float4
true
null
null::int
'text'
'text'::varchar(3)
'c'::char(3)
''
'ä€😀'
'\xdeadbeef00'::bytea
date '2024-02-29'
time '12:34:56.789'
timestamp '2024-02-29 12:34:56'
timestamptz '2024-02-29 12:34:56+02'
interval '1 day 02:03:04'
'{1,2,null}'::int[]
'{{a,b},{c,"d,e"}}'::text[]
'{}'::date[]
'{"a": [1, null]}'::json
'{"a": {"b": 2}}'::jsonb
'00000000-0000-0000-0000-000000000001'::uuid
'10.0.0.0/8'::cidr
'[1,5)'::int4range
'(1,2)'::point
row(1, 'a')
b'101'
""")

# SQLSTATE -> a statement that ends with it.
ERRORS = {
    "22012": "select 1 / 0",
    "22003": "select 40000::int2",
    "22P02": "select 'x'::int",
    "22007": "select 'x'::date",
    "22008": "select '2024-02-30'::date",
    "22001": "create temp table e22001 as select 'x'::varchar(1) as a; insert into e22001 values ('xy')",
    "22023": "set timezone = 'nowhere'",
    "2201E": "select ln(0)",
    "2202E": "select '{1,{2}}'::int[] || '{{{1}}}'::int[]",
    "23502": "create temp table e23502 (a int not null); insert into e23502 values (null)",
    "23503": "create temp table p (a int unique); create temp table f (a int references p(a)); insert into f select 1",
    "23505": "create temp table e23505 (a int primary key); insert into e23505 values (1), (1)",
    "23514": "create temp table e23514 (a int check (a > 0)); insert into e23514 values (0)",
    "25001": "begin; vacuum",
    "25006": "begin read only; create table e25006 (a int)",
    "25P01": "savepoint s",
    "26000": "execute nothing",
    "2BP01": "create temp table d (a int); create temp view dv as select * from d; drop table d",
    "34000": "fetch nothing",
    "3B001": "begin; rollback to nothing",
    "3F000": "create table nowhere.t (a int)",
    "42501": "select * from pg_authid",
    "42601": "selec 1",
    "42702": "select a from (values (1)) x(a), (values (1)) y(a)",
    "42703": "select nothing from pg_class",
    "42704": "drop type nothing",
    "42710": "create role md5_user",
    "42725": "select 'a' || unknown_cast from (select null::point as unknown_cast) x",
    "42803": "select relname, count(*) from pg_class",
    "42804": "select 1 union select 'a'::text",
    "42883": "select nothing(1)",
    "42P01": "select * from nothing",
    "42P07": "create temp table t7 (a int); create temp table t7 (a int)",
    "42P18": "select $1",
    "0A000": "select 1 from pg_class for update of nothing, pg_class group by 1",
    "P0001": "do $$ begin raise exception 'own' using detail = 'd', hint = 'h'; end $$",
    "P0004": "do $$ begin assert false, 'no'; end $$",
    "UE001": "do $$ begin raise exception using errcode = 'UE001', message = 'mine'; end $$",
    "57014": "set statement_timeout = 50; select pg_sleep(30)",
    "55P03": "set lock_timeout = 50; begin; lock table pg_authid in access exclusive mode nowait",
}

SETTINGS = lines("""
show timezone
set timezone = 'Asia/Tokyo'
show timezone
select timestamptz '2024-01-01 00:00+00'::text
set datestyle = 'German'
select date '2024-02-29'::text
set local timezone = 'UTC'
reset timezone
show timezone
set application_name = 'mine'
show application_name
set my.own = 'value'
show my.own
select current_setting('my.own')
select set_config('my.own', 'other', false)
select current_setting('my.own')
begin
set local my.own = 'third'
select current_setting('my.own')
rollback
select current_setting('my.own')
set search_path = pg_catalog
select current_schemas(false)::text
show search_path
reset all
show datestyle
show search_path
discard all
show application_name
select name, setting from pg_settings where name like '%transaction_read_only' order by 1
show transaction_read_only
show default_transaction_read_only
show in_hot_standby
""")

TRANSACTIONS = lines("""
create table tx (a int)
begin
insert into tx values (1)
savepoint s
insert into tx values (2)
select 1 / 0
select 1
rollback to s
insert into tx values (3)
release s
select a from tx order by a
commit
select a from tx order by a
begin
delete from tx
rollback
select count(*) from tx
begin
select 1 / 0
commit
commit
rollback
begin
begin
commit and chain
rollback and no chain
select count(*) from tx
begin isolation level serializable read only deferrable
show transaction_isolation
show transaction_read_only
insert into tx values (4)
end
begin
insert into tx values (5)
prepare transaction 'later'
select count(*) from tx
rollback prepared 'later'
rollback prepared 'later'
select 1
drop table tx
select * from tx
""")

TEMPORARY = lines("""
create temp table hidden (a int)
insert into hidden values (1)
select * from hidden
create table twice (a text)
insert into twice values ('permanent')
select a from twice
create temp table twice (a text)
select a from twice
drop table pg_temp.twice
select a from twice
drop table twice
begin
create temp table gone (a int) on commit drop
select * from gone
commit
select * from gone
discard temp
select * from hidden
""")

LOCKS = lines("""
select pg_advisory_lock(42)
select pg_try_advisory_lock(42)
select mode, granted from pg_locks where locktype = 'advisory'
select pg_advisory_unlock(42)
select pg_advisory_unlock(42)
select pg_advisory_unlock(42)
begin
select pg_advisory_xact_lock(43)
select count(*) from pg_locks where locktype = 'advisory'
commit
select count(*) from pg_locks where locktype = 'advisory'
""")

ROW_SECURITY = lines("""
create table secrets (owner text, a int)
insert into secrets values ('driver_tenant', 1), ('other', 2)
alter table secrets enable row level security
create policy p on secrets using (owner = current_user)
grant select on secrets to driver_tenant
grant usage on schema {schema} to driver_tenant
select a from secrets order by a
set role driver_tenant
select current_user, session_user <> current_user
select a from {schema}.secrets order by a
insert into {schema}.secrets values ('x', 3)
begin
reset role
select a from {schema}.secrets order by a
rollback
select a from {schema}.secrets order by a
reset role
select current_user
select a from secrets order by a
drop table secrets
""")

SEQUENCES = lines("""
create sequence q
select currval('q')
select nextval('q')
select currval('q'), lastval()
select last_value, is_called from q
select setval('q', 10)
select nextval('q')
create table qs (id serial, a text)
insert into qs (a) values ('a'), ('b') returning id
select lastval()
drop table qs
drop sequence q
""")

NOTICES = lines("""
do $$ begin raise notice 'hello %', 1 using detail = 'd', hint = 'h'; raise warning 'careful'; end $$
drop table if exists nothing
create table if not exists pg_catalog.pg_class (a int)
rollback
set client_min_messages = error
drop table if exists nothing
set client_min_messages = debug1
select 1
set client_min_messages = notice
set local timezone = 'UTC'
""")

SEVERAL = lines("""
select 1; select 2, 'b'; select 3 where false
create table sev (a int); insert into sev values (1); select * from sev
insert into sev values (2); select 1 / 0; insert into sev values (3)
select count(*) from sev
begin; insert into sev values (4); commit; select count(*) from sev; select 1 / 0
select count(*) from sev
;;select 1;;

;
-- a comment
drop table sev; select 5
""")

PREPARED = lines("""
create table pr (a int)
insert into pr values (1), (2)
prepare p (int) as select a + $1 as a from pr order by 1
execute p (10)
explain (costs off) execute p (1)
prepare p as select 1
select name, statement, parameter_types::text, from_sql from pg_prepared_statements
alter table pr alter a type bigint
execute p (20)
deallocate p
execute p (1)
prepare w as insert into pr values (3) returning a
execute w
select count(*) from pr
deallocate all
execute w
drop table pr
""")

CURSORS = lines("""
declare c cursor for select 1
begin
declare c scroll cursor for select g from generate_series(1, 10) g
fetch 3 from c
move 2 in c
fetch backward 1 from c
fetch all from c
select name, is_holdable from pg_cursors
close c
commit
fetch c
declare h cursor with hold for select g from generate_series(1, 5) g
fetch 2 from h
begin
fetch 1 from h
rollback
fetch all from h
select name, is_holdable from pg_cursors
close h
fetch h
close all
""")
