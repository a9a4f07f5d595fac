#!/bin/bash
# A standby of $PRIMARY: its copy the first time, and then it follows.
set -euo pipefail

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    until pg_basebackup -R -X stream -D "$PGDATA" \
        -d "host=$PRIMARY port=${PRIMARY_PORT:-5432} user=replicator password=replicator-secret"; do
        sleep 1
    done
    chmod 0700 "$PGDATA"
fi
exec postgres -D "$PGDATA" "$@"
