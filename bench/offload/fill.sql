-- The same rows for each run of a workload.
truncate account, entry restart identity;
insert into account select id, 'owner ' || id, 100 from generate_series(1, 1000) id;
insert into entry (account, amount) select 1 + id % 1000, id % 50 from generate_series(1, 10000) id;
update pgbench_branches set bbalance = 0;
update pgbench_tellers set tbalance = 0;
vacuum analyze account, entry, ticket, pgbench_accounts, pgbench_branches, pgbench_tellers;
