"""Makes pgsplit/classify/functions.py from the catalogues of the servers whose DSNs are given.

A name is safe when every function of that name, in every version, is immutable, or is stable and not one of
`server_local.FUNCTIONS` (gone through by hand), or is one of the volatile ones that are named here with the reason.
"""

from __future__ import annotations

import sys
import textwrap

import psycopg

from pgsplit.classify import server_local

QUERY = """
select proname, array_agg(distinct provolatile::text) from pg_proc
where pronamespace = 'pg_catalog'::regnamespace and prokind in ('f', 'a', 'w')
  and not ('internal'::regtype = any (proargtypes::oid[]) or 'cstring'::regtype = any (proargtypes::oid[]))
  and prorettype not in (select oid from pg_type where typname in ('internal', 'cstring', 'trigger', 'event_trigger')
                          or typname like '%%_handler')
group by 1
"""

# Volatile, and yet the same on a replica: they have no effect, and no server can say what they will answer.
HARMLESS = ("array_sample", "array_shuffle", "gen_random_uuid", "pg_partition_ancestors", "pg_partition_tree",
            "random", "random_normal")

# Declared stable or immutable, but they are given the name of what they run: a relation, or a type.
RUNS_BY_NAME = {"pg_input_error_info", "pg_input_is_valid", *(
    f"{what}_to_{form}" for what in ("database", "schema", "table")
    for form in ("xml", "xml_and_xmlschema", "xmlschema"))}


def main(dsns: list[str]) -> None:
    volatility: dict[str, set[str]] = {}
    versions = []
    for dsn in dsns:
        with psycopg.connect(dsn) as connection:
            versions.append(connection.info.server_version // 10000)
            for name, found in connection.execute(QUERY).fetchall():
                volatility.setdefault(name, set()).update(found)
    safe = sorted(name for name, found in volatility.items()
                  if "v" not in found and name not in RUNS_BY_NAME and not server_local.is_local_function(name))
    safe = sorted({*safe, *(name for name in HARMLESS if name in volatility)})
    names = ", ".join(f'"{name}"' for name in safe) + ","
    words = textwrap.fill(names, 116, initial_indent="    ", subsequent_indent="    ")
    print('"""Built-in functions that answer on a caught-up standby as they do on the primary, without any effect.\n\n'
          "Made by tests/tools/generate_functions.py from PostgreSQL "
          f"{' and '.join(map(str, versions))}; do not edit.\n"
          '"""\n\nfrom typing import Final\n\nSAFE: Final = frozenset([\n' + words + '\n])')


main(sys.argv[1:])
