\set aid random(1, 100000)
\set other random(1, 100000)
begin;
select abalance from pgbench_accounts where aid = :aid;
select abalance, bid from pgbench_accounts where aid = :other;
commit;
