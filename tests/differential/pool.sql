-- Statements for mixtures, one a line; neighbours belong together. None of them says what differs from run to run.
-- tables
create table t (a int primary key, b text, c numeric default 1.5)
insert into t values (1, 'one'), (2, 'two'), (3, null)
insert into t values (1, 'again')
insert into t select g, 'row ' || g from generate_series(10, 60) g on conflict do nothing
insert into t values (1, 'x') on conflict (a) do update set b = excluded.b || '!' returning *
select * from t order by a
select count(*), sum(a), max(b) from t
update t set b = b || '+' where a % 2 = 0
update t set c = c * 2 returning a, c
delete from t where a > 50 returning a
select a, b from t where a = $1
select a from t where b like 'row%' order by a limit 3
select t from t order by a limit 2
table t
truncate t
drop table t
drop table if exists t, u cascade
create table u (id int generated always as identity, a int references t(a), at date default '2024-01-01', tags text[])
insert into u (a, tags) values (1, '{a,b}'), (2, '{}')
insert into u (a) values (99)
insert into u (id, a) values (1, 1)
select u.id, t.b from u join t using (a) order by 1
select * from t left join u using (a) order by t.a limit 5
alter table t add column d jsonb default '{"k": [1, 2]}'
select d ->> 'k', d -> 'k' -> 0 from t order by a limit 2
alter table t drop column d
alter table t alter column b type varchar(100)
alter table t rename column c to cc
alter table t rename column cc to c
alter table t add constraint positive check (a > 0) not valid
alter table t validate constraint positive
insert into t values (-1)
create index on t (b)
create unique index concurrently t_b on t (b)
drop index t_b
reindex table t
analyze t
vacuum t
vacuum (analyze, verbose false) t
comment on table t is 'a comment'
select obj_description('t'::regclass)
create table parts (k int, v text) partition by range (k)
create table parts_1 partition of parts for values from (0) to (10)
create table parts_2 partition of parts for values from (10) to (20)
insert into parts select g, 'p' || g from generate_series(0, 19) g
insert into parts values (99, 'none')
select tableoid::regclass::text, count(*) from parts group by 1 order by 1
alter table parts detach partition parts_2
drop table parts, parts_2
create unlogged table fast (a int)
insert into fast values (1)
select * from fast
drop table fast
create table child () inherits (t)
insert into child values (1000, 'child')
select count(*) from only t
drop table child
merge into t using (values (1, 'm'), (77, 'n')) v(a, b) on t.a = v.a when matched then update set b = v.b when not matched then insert values (v.a, v.b)
with w as (insert into t values (500, 'cte') returning a) select * from w
with d as (delete from t where a = 500 returning *) select count(*) from d
select a into made from t where a < 3
select * from made order by 1
create table made as select 1 as x
drop table if exists made
create table empty ()
insert into empty default values
select from empty
drop table empty
-- queries
select 1
select 1, 'a'::text, null, 1.5, true
select $1::int + 1
select $1 || 'x'
select $1, $2
select
select * from (values (1, 'a'), (2, 'b')) v(n, s)
values (1), (2), (3)
select * from generate_series(1, 100) g
select g, repeat('x', g) from generate_series(1, 50) g
select repeat('y', 100000)
select count(*) from pg_class where relname = 'pg_class'
select 1 union all select 2 order by 1 desc
select 1 except select 1
with recursive r(n) as (select 1 union all select n + 1 from r where n < 20) select sum(n) from r
select row_number() over (order by g desc), g from generate_series(1, 5) g
select array_agg(g order by g desc) from generate_series(1, 5) g
select string_agg(x, ',' order by x) from unnest(array['b','a']) x
select grouping(a), a, count(*) from (values (1), (1), (2)) v(a) group by rollup(a) order by 1, 2
select percentile_cont(0.5) within group (order by g) from generate_series(1, 4) g
select date '2024-02-29' + 1, age(date '2024-01-01', date '2023-12-25')
select to_char(timestamp '2024-02-29 12:34', 'YYYY Mon DD'), extract(epoch from timestamptz '2024-01-01 00:00+00')
select timestamptz '2024-06-01 12:00+00'
select interval '1 day 2 hours' * 2
select now() = now(), current_date = now()::date
select clock_timestamp() > timestamptz '2020-01-01'
select 'now'::timestamptz > '2020-01-01'
select row(1, 'a', null), (row(1, 2)).f1
select (1, 2) = (1, 2), (1, null) is distinct from (1, null)
select '{1,2,3}'::int[] @> '{2}', array[1, 2] || 3
select '[1,5)'::int4range * '[3,9)'::int4range
select '{"a": {"b": [1, 2]}}'::jsonb #> '{a,b}'
select jsonb_path_query('{"a": [1, 2, 3]}', '$.a[*] ? (@ > 1)')
select xmlelement(name x, 'y')
select to_tsvector('english', 'the quick brown foxes') @@ to_tsquery('fox')
select md5('a'), sha256('a'), encode('\xdeadbeef', 'base64')
select '10.0.0.0/8'::inet >> '10.1.2.3', macaddr '08:00:2b:01:02:03'
select 'x' collate "C" < 'Y', upper('äß')
select 1::bit(4), b'101' | b'010'
select point(1, 2) <-> point(4, 6), circle '((0,0),1)'
select money '1.50' * 2
select E'a\nb\\c', U&'\0041', $$dollar's$$
select /* a comment /* nested */ */ 1 -- end
select "current_user"()
select pg_typeof(1.5), format('%s %I %L', 'a', 'b c', 'd''e')
select coalesce(null, 1), nullif(1, 1), greatest(1, 3, 2), case when true then 'y' end
select exists (select 1), 1 in (1, 2), 1 = any ('{1}'), not null::bool
select generate_series(1, 3), generate_series(1, 2)
select * from unnest('{1,2}'::int[], '{a,b}'::text[]) with ordinality
select * from json_to_record('{"a": 1, "b": "x"}') as r(a int, b text)
select lateral_.* from generate_series(1, 2) g, lateral (select g * 10 as m) lateral_
select * from rows from (generate_series(1, 2), generate_series(5, 8)) as f(a, b)
select 1 as "select", 2 as "ä ö"
select version() = version(), current_setting('server_version_num')::int > 0
select pg_is_in_recovery(), current_setting('transaction_read_only')
select pg_backend_pid() = pg_backend_pid(), inet_server_addr() is null
select current_user, session_user, current_database(), current_schema
select current_setting('work_mem'), current_setting('search_path')
select has_table_privilege('pg_class', 'select'), to_regclass('t') is null
select txid_current_if_assigned() is null
select pg_current_xact_id() is not null
select txid_current() > 0
select pg_current_wal_lsn() > '0/0'
select relname from pg_class where relname in ('t', 'u', 'tt') order by 1
select attname, atttypid::regtype from pg_attribute where attrelid = 't'::regclass and attnum > 0 order by attnum
select column_name, data_type from information_schema.columns where table_name = 't' order by 1
explain (costs off) select * from t where a = 1
explain (costs off) update t set b = 'x'
explain (analyze, costs off, timing off, summary off) insert into t values (70, 'analyzed')
explain (costs off, format json) select 1
-- errors
select 1 / 0
select 1 / (5 - g) from generate_series(1, 10) g
select nothing
select * from nothing
select nothing(1)
selec 1
select 'x'::int
select 99999999999::int
select '2024-13-01'::date
select (select g from generate_series(1, 2) g)
select 'open
insert into nothing values (1)
drop table nothing
create table pg_class (a int)
alter table nothing add a int
select sqrt(-1), ln(0)
select array[1, 'x']
select * from t, u where a = 1
select a from t group by b
select 1 from t having nothing
select lower(1, 2)
select '{"a"'::json
select row(1, 2) = row(1)
do $$ begin raise exception 'own %', 1 using errcode = 'UE001', hint = 'h', detail = 'd' end $$
do $$ begin raise exception 'own %', 1 using errcode = 'UE001', hint = 'h', detail = 'd'; end $$
do $$ begin perform 1 / 0; end $$
do $$ begin raise notice 'a notice'; raise warning 'a warning'; end $$
set nothing to 1
set work_mem = 'x'
reset nothing
show nothing
-- transactions
begin
select count(*) from t
insert into t values (200, 'in a transaction')
commit
begin
insert into t values (201, 'gone')
select b from t where a = 201
rollback
begin read only
select 1
insert into t values (202, 'never')
rollback
begin isolation level serializable
select count(*) from t
end
begin
set transaction read only
select count(*) from t
set transaction read write
rollback
begin
set transaction isolation level read committed, read only
set transaction read write
insert into t values (208, 'written')
rollback
begin
set transaction read write
select max(a) from t
set transaction read write
set constraints all deferred
set constraints nothing immediate
rollback
begin
set local work_mem = '3MB'
set transaction isolation level repeatable read
show transaction_isolation
commit
start transaction isolation level repeatable read, read only
show transaction_isolation
abort
begin; select 1; commit
begin; select 1 / 0; commit
begin
savepoint s1
insert into t values (203, 's1')
savepoint s2
select 1 / 0
select 'aborted'
rollback to s2
release s1
select b from t where a = 203
commit and chain
select 'chained'
rollback and no chain
commit
rollback
savepoint outside
release s1
rollback to s1
set transaction read only
set local work_mem = '2MB'
set session characteristics as transaction read only
insert into t values (204, 'read only')
set session characteristics as transaction read write
set transaction isolation level serializable
begin
prepare transaction 'two'
rollback prepared 'two'
commit prepared 'nothing'
lock table t
begin; lock table t in share mode; select 1; rollback
select 1; select 2
select 1; insert into t values (205, 'implicit'); select 1 / 0
select b from t where a = 205
insert into t values (206, 'a'); begin; insert into t values (207, 'b'); rollback
select a from t where a in (206, 207)
select 1; begin
select 'inside'
commit; select 'outside'
;
; ;
-- settings
set timezone = 'Asia/Tokyo'
select timestamptz '2024-06-01 12:00+00'
show timezone
set datestyle = 'German, DMY'
select date '2024-02-29'
set intervalstyle = 'iso_8601'
select interval '1 day 02:03'
set bytea_output = 'escape'
select '\xdead'::bytea
set extra_float_digits = 0
select 0.1::float8 + 0.2
set search_path = s, public
select current_schemas(true)
create schema s
create table s.tt (x int)
insert into s.tt values (7)
select x from tt
drop schema s cascade
set search_path to default
set standard_conforming_strings = off
select 'a\\b'
reset standard_conforming_strings
set client_encoding = 'latin1'
select chr(228)
set names 'utf8'
select chr(228)
set application_name = 'diff app'
show application_name
set statement_timeout = '10s'
show statement_timeout
set lc_monetary = 'C'
set work_mem = '3MB'; show work_mem
set session work_mem to '5MB'
select current_setting('work_mem')
set local datestyle = 'SQL'
begin; set local datestyle = 'SQL'; select date '2024-02-29'; commit
select date '2024-02-29'
begin
set timezone = 'America/New_York'
select timestamptz '2024-06-01 12:00+00'
rollback
select timestamptz '2024-06-01 12:00+00'
begin
savepoint a
set timezone = 'Europe/Paris'
rollback to a
show timezone
commit
set app.tenant = '7'
select current_setting('app.tenant')
select current_setting('app.tenant', true), current_setting('app.never', true)
select set_config('app.tenant', '8', false)
select current_setting('app.tenant')
select count(*) from t where a = current_setting('app.tenant', true)::int
select set_config('app.tenant', '9', true), current_setting('app.tenant')
select current_setting('app.tenant', true)
select set_config('timezone', 'UTC', false) from generate_series(1, 2)
select * from (select set_config('datestyle', 'ISO', false)) x
do $$ begin perform set_config('app.deep', 'd', false); set work_mem = '6MB'; end $$
select current_setting('app.deep', true), current_setting('work_mem')
reset app.tenant
reset all
show all_nothing
show work_mem
show search_path
show is_superuser
show transaction_read_only
show server_version
select name, setting from pg_settings where name in ('work_mem', 'timezone', 'datestyle') order by 1
discard all
discard plans
discard sequences
discard temp
set session authorization diff_tenant
select current_user, session_user
reset session authorization
set role diff_tenant
select current_user, session_user
select count(*) from t
reset role
set role none
set role nobody_here
select current_user
begin; set local role diff_tenant; select current_user; commit
select current_user
set default_transaction_read_only = on
insert into t values (300, 'x')
show transaction_read_only
set default_transaction_read_only = off
set default_transaction_isolation = 'repeatable read'
show transaction_isolation
reset default_transaction_isolation
set enable_seqscan = off
explain (costs off) select * from t where b = 'x'
reset enable_seqscan
set plan_cache_mode = force_generic_plan
set row_security = on
set check_function_bodies = off
set synchronous_commit = off
insert into t values (301, 'async')
select b from t where a = 301
reset synchronous_commit
-- row-level security
create table tenants (tenant text, v int)
insert into tenants values ('7', 70), ('8', 80), ('9', 90)
alter table tenants enable row level security
create policy p on tenants using (tenant = current_setting('app.tenant', true))
grant select on tenants to diff_tenant
set role diff_tenant
set app.tenant = '8'
select * from tenants
select set_config('app.tenant', '9', false)
select * from tenants
begin; set local app.tenant = '7'; select v from tenants; commit
select v from tenants
reset role
select v from tenants order by 1
revoke all on tenants from diff_tenant
drop table tenants
-- prepared
prepare p1 as select a, b from t where a = $1
execute p1(1)
execute p1('x')
explain (costs off) execute p1(1)
prepare p2(int, text) as insert into t values ($1, $2) returning a
execute p2(400, 'prepared')
execute p2(400, 'again')
prepare p1 as select 1
deallocate p1
execute p1(1)
prepare p3 as select count(*) from t
execute p3
alter table t add column extra int
execute p3
prepare p4 as select * from t order by a limit 1
execute p4
alter table t drop column extra
execute p4
create table made as execute p3
deallocate all
deallocate nothing
select name, statement, from_sql from pg_prepared_statements where name like 'p%' order by 1
prepare p5 as update t set b = 'by p5' where a = $1
execute p5(1)
prepare p6 as select set_config('app.tenant', $1, false)
execute p6('from p6')
select current_setting('app.tenant', true)
-- cursors
begin
declare c cursor for select g from generate_series(1, 20) g
fetch 3 from c
fetch all in c
move -5 in c
fetch backward 2 from c
close c
declare c2 scroll cursor for select a from t order by a
fetch last c2
fetch absolute 2 c2
fetch relative -1 c2
commit
fetch c2
declare c3 cursor for select 1
begin; declare c4 binary cursor for select 1, 'x'; fetch c4; commit
declare h cursor with hold for select g from generate_series(1, 5) g
fetch 2 h
select name, is_holdable from pg_cursors where name in ('c', 'c2', 'h') order by 1
fetch all h
close h
close all
begin
declare upd cursor for select * from t order by a for update
fetch upd
update t set b = 'current' where current of upd
commit
begin read only
declare r1 scroll cursor for select a, b from t order by a
fetch 2 r1
savepoint s
declare r2 cursor for select 1
select 1 / 0
fetch r1
rollback to s
fetch r2
fetch backward 1 r1
show transaction_read_only
fetch 1 from r1
insert into t values (209, 'never')
rollback to s
move all in r1
close r1
fetch r1
commit
begin read only
declare r3 cursor for table t
close all
fetch r3
rollback
start transaction read only
declare r4 cursor for select g from generate_series(1, 3) g
lock table t in access share mode
fetch all r4
declare r4 cursor for select 2
commit
-- temporary objects
create temp table tmp (a int)
insert into tmp values (1), (2)
select * from tmp
select count(*) from tmp join t using (a)
drop table tmp
create temp table t (a int, note text)
insert into t values (1, 'hides')
select * from t
drop table pg_temp.t
create temp view tv as select 1 as one
select * from tv
drop view tv
create temp sequence ts
select nextval('ts')
drop sequence ts
select 1 as a into temp tmp2
select * from tmp2
begin; create temp table oc (a int) on commit drop; insert into oc values (1); select * from oc; commit
select * from oc
create temp table del (a int) on commit delete rows
insert into del values (1)
select count(*) from del
discard temp
select * from del
create function makes_temp() returns int language plpgsql as $$ begin create temp table if not exists inner_temp (a int); insert into inner_temp values (1); return (select count(*) from inner_temp); end $$
select makes_temp()
select count(*) from inner_temp
drop table if exists inner_temp
-- sequences
create sequence sq
select nextval('sq'), nextval('sq')
select currval('sq')
select lastval()
select last_value, is_called from sq
select setval('sq', 50)
select nextval('sq')
select last_value from pg_sequences where sequencename = 'sq'
alter sequence sq restart
discard sequences
select currval('sq')
insert into u (a) values (1) returning id
select pg_get_serial_sequence('u', 'id')
drop sequence sq
-- advisory locks
select pg_advisory_lock(11)
select pg_try_advisory_lock(11)
select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()
select pg_advisory_unlock(11)
select pg_advisory_unlock(11)
select pg_advisory_unlock(11)
select pg_advisory_unlock_all()
select pg_advisory_xact_lock(12)
select pg_try_advisory_lock(1, 2), pg_advisory_unlock(1, 2)
select a, pg_try_advisory_lock(a) from generate_series(1, 2) a
-- notifications
listen diff_channel
select pg_listening_channels()
notify other_channel, 'nobody hears'
unlisten diff_channel
unlisten *
select pg_notify('nobody', 'x')
-- functions, procedures, triggers, views, rules
create or replace function plus_one(i int) returns int language sql immutable as 'select i + 1'
select plus_one(41)
select sum(plus_one(a)) from t
create or replace function writes(n int) returns int language sql as 'insert into t values (n, ''written'') returning a'
select writes(600)
select b from t where a = 600
create or replace function secretly(n int) returns int language plpgsql stable as $$ begin return n + (select count(*) from t); end $$
select secretly(1)
create or replace function table_of(n int) returns table (x int, y text) language sql as 'select g, g::text from generate_series(1, n) g'
select * from table_of(3)
create or replace procedure proc(inout n int) language plpgsql as $$ begin insert into t values (n, 'by proc'); n := n + 1; end $$
call proc(700)
create or replace procedure commits() language plpgsql as $$ begin insert into t values (800, 'c'); commit; insert into t values (801, 'c'); rollback; end $$
call commits()
select a from t where a in (800, 801)
begin; call commits(); rollback
create or replace view v as select a, b from t where a < 100
select * from v order by a limit 3
insert into v values (90, 'through v')
create or replace view w as select writes(900 + g) from generate_series(1, 2) g
select * from w
drop view w
create materialized view mv as select count(*) as n from t
select * from mv
refresh materialized view mv
select n >= 0 from mv
drop materialized view mv
create or replace function touch() returns trigger language plpgsql as $$ begin new.b := coalesce(new.b, '') || ' touched'; raise notice 'touching %', new.a; return new; end $$
create or replace trigger tg before insert on t for each row execute function touch()
insert into t values (850, 'trigger') returning b
drop trigger if exists tg on t
create rule r as on insert to t where new.a = 860 do also insert into t values (861, 'rule')
insert into t values (860, 'x')
select a from t where a in (860, 861) order by 1
drop rule r on t
create type mood as enum ('sad', 'ok')
select 'ok'::mood, 'sad'::mood < 'ok'
select 'happy'::mood
alter type mood add value 'happy'
select enum_range(null::mood)
drop type mood
create type pair as (x int, y text)
select row(1, 'a')::pair, ((1, 'b')::pair).y
drop type pair
create domain positive_int as int check (value > 0)
select 5::positive_int, (-5)::positive_int
drop domain positive_int
create aggregate product(int) (sfunc = int4mul, stype = int, initcond = '1')
select product(g) from generate_series(1, 5) g
drop aggregate product(int)
create operator === (leftarg = int, rightarg = int, function = int4eq)
select 1 === 1
drop operator === (int, int)
create cast (int as point) with inout as assignment
drop function if exists plus_one, writes, secretly, table_of
drop procedure if exists proc, commits
drop view if exists v
create extension if not exists pg_trgm
select similarity('word', 'two words')
select show_limit()
set pg_trgm.similarity_threshold = 0.5
select current_setting('pg_trgm.similarity_threshold', true)
drop extension if exists pg_trgm
create statistics st on a, b from t
drop statistics st
create publication pub for table t
drop publication pub
create event trigger et on ddl_command_start execute function touch()
create foreign data wrapper fdw
create server sv foreign data wrapper fdw
create foreign table ft (a int) server sv
select * from ft
drop foreign data wrapper fdw cascade
create collation de (provider = icu, locale = 'de')
create text search configuration cfg (copy = english)
select to_tsvector('cfg', 'running')
drop text search configuration cfg
grant select on t to diff_tenant
revoke select on t from diff_tenant
grant select on t to nobody_here
alter default privileges grant select on tables to diff_tenant
alter default privileges revoke select on tables from diff_tenant
security label on table t is 'x'
-- copy
copy t to stdout
copy (select a, b from t order by a limit 5) to stdout (format csv, header)
copy (select g from generate_series(1, 3000) g) to stdout
copy (select 1 / (50 - g) from generate_series(1, 100) g) to stdout
copy (select 1, 'x') to stdout (format binary)
create table cp (n int)
copy cp from stdin
select count(*), sum(n) from cp
copy cp (nothing) from stdin
copy cp from stdin (format csv, header)
copy t (a) from stdin
copy nothing to stdout
copy (insert into cp values (9) returning n) to stdout
truncate cp; copy cp from stdin; select count(*) from cp
drop table cp
-- large objects
begin
select lo_create(7001)
select lo_put(7001, 0, 'large')
select lo_get(7001)
commit
select lo_get(7001), length(lo_get(7001, 1, 2))
select loid, pageno, length(data) from pg_largeobject where loid = 7001
begin; select lowrite(lo_open(7001, 131072), 'more'); commit
select convert_from(lo_get(7001), 'utf8')
select lo_unlink(7001)
select lo_get(7001)
select lo_from_bytea(7002, '\xdead'), lo_unlink(7002)
-- row locks
select a from t order by a limit 2 for update
select a from t order by a limit 2 for share skip locked
select a from t for no key update nowait
begin; select count(*) from (select 1 from t for key share) x; commit
-- what a pool sends
select pg_advisory_unlock_all(); close all; unlisten *; reset all
reset session authorization; reset role; discard temp
select pg_catalog.version() is not null; show server_version_num
select t.oid > 0, typarray > 0 from pg_type t where typname = 'int4'
begin; select 1; end; select 2
set session characteristics as transaction isolation level read committed
discard all
