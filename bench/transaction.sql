\set aid random(1, 100000 * :scale)
begin;
select abalance from pgbench_accounts where aid = :aid;
commit;
