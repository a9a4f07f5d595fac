#!/bin/bash
# Run by the primary's image once it has made its directory: who may log in, and who may follow.
set -euo pipefail

psql -v ON_ERROR_STOP=1 -U postgres <<'SQL'
create role app login password 'app-secret';
create role monitor login password 'monitor-secret' in role pg_monitor;
create role replicator replication login password 'replicator-secret';
grant create on schema public to app;
SQL
echo 'host replication replicator all scram-sha-256' >>"$PGDATA/pg_hba.conf"
