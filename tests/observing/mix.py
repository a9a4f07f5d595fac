"""Sessions in which reads stand wherever they may stand; each list is one."""

from __future__ import annotations

TABLES = "create table mix (a int, b int)"

MIX = [
    ["select a from mix where b = 1"] * 3,
    ["begin", "select a from mix where b = 1", "select a from mix where b = 2", "update mix set a = 0 where b = 1",
     "select a from mix where b = 1", "commit", "select a from mix"],
    ["begin", "select now()", "select a from mix", "rollback"],
    ["begin", "savepoint a", "set local work_mem = '1MB'", "select 1", "rollback to a", "select 2", "commit"],
    ["begin isolation level repeatable read", "select 1", "commit"],
    ["begin isolation level repeatable read read only", "select 1", "commit"],
    ["begin", "set transaction isolation level serializable", "select 1", "commit"],
    ["begin", "set transaction read only", "select 1", "commit"],
    ["begin", "set transaction read write", "select 1", "commit"],
    ["begin read only", "select 1", "commit"],
    ["begin", "select 1 for update", "select 1", "commit"],
    ["begin", "show shared_buffers", "select 1", "commit"],
    ["begin", "set work_mem = '2MB'", "select 1", "commit", "select 1"],
    ["begin", "lock table mix", "select 1", "rollback"],
    ["begin", "declare c cursor for select a from mix", "fetch 1 from c", "select 1", "commit"],
    ["begin", "insert into mix values (1, 2) returning a", "rollback", "begin", "select a from mix", "commit"],
    ["select now()", "select version()", "/* pgsplit: primary */ select 1", "table pg_settings"],
    ["select 1; insert into mix values (1)", "begin; select 1; commit", "select 1; select 2"],
    ["prepare p as select 1", "execute p", "deallocate p"],
    ["prepare q as insert into mix values (1)", "begin", "execute q", "select 1", "commit"],
    ["create temp table x (a int)", "select 1", "begin", "select 1", "commit"],
    ["begin", "create temp table y (a int) on commit drop", "select 1", "commit"],
    ["listen mix", "select 1"],
    ["select pg_advisory_lock(7)", "select 1"],
    ["begin", "select pg_advisory_xact_lock(7)", "select 1", "commit", "select 1"],
    ["copy (select a from mix) to stdout", "explain select a from mix", "values (1)", "with w as (select 1) table w"],
]
