"""What a server answers about itself: other bytes on a standby, without an error. Never read from a replica.

Made by going through every stable and volatile built-in function, every system view and every setting that SQL can
show, of PostgreSQL 13 to 18. What is in no table is unknown, and unknown means primary.
"""

from __future__ import annotations

import re
from typing import Final

# The server's clock decides (a replica's may be behind the moment that a row was written).
CLOCK: Final = frozenset([
    "age", "clock_timestamp", "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp",
    "now", "statement_timestamp", "timeofday", "transaction_timestamp",
])

# Words that become the current time when a string is read as a date or a time, as in 'today 14:00' (PostgreSQL manual
# 8.5.1.4). A longer string is neither.
_CLOCK_STRING: Final = re.compile(r"(?<![a-z])(?:now|today|tomorrow|yesterday)(?![a-z])", re.IGNORECASE).search
LONGEST_DATE: Final = 128

# Functions that say something of the server, the session or the transaction, and change nothing.
FUNCTIONS: Final = frozenset([
    "current_schemas", "current_setting", "inet_client_addr", "inet_client_port", "inet_server_addr",
    "inet_server_port", "mxid_age",
    "pg_available_extension_versions", "pg_available_extensions", "pg_backend_pid", "pg_blocking_pids",
    "pg_conf_load_time", "pg_config", "pg_control_checkpoint", "pg_control_system", "pg_current_snapshot",
    "pg_current_xact_id", "pg_current_xact_id_if_assigned", "pg_cursor", "pg_database_size",
    "pg_extension_update_paths", "pg_get_replication_slots", "pg_indexes_size", "pg_is_in_recovery",
    "pg_is_other_temp_schema", "pg_last_wal_receive_lsn", "pg_last_wal_replay_lsn", "pg_last_xact_replay_timestamp",
    "pg_listening_channels", "pg_my_temp_schema", "pg_postmaster_start_time", "pg_prepared_statement",
    "pg_relation_size", "pg_sequence_last_value", "pg_show_all_settings", "pg_table_size",
    "pg_tablespace_databases", "pg_tablespace_location", "pg_tablespace_size", "pg_timezone_abbrevs",
    "pg_timezone_names", "pg_total_relation_size", "pg_trigger_depth", "pg_xact_status", "txid_current",
    "txid_current_if_assigned", "txid_current_snapshot", "txid_status", "version",
])
# What they do is seen from other sessions while they do it: who looks into pg_stat_activity for one that sleeps, and
# ends it there, looks on the primary.
SLEEPING: Final = frozenset({"pg_sleep", "pg_sleep_for", "pg_sleep_until"})
_FUNCTION_PREFIXES: Final = ("pg_stat_get_", "pg_event_trigger_", "pg_relation_filepath", "pg_get_wal_")

# System views over shared memory, files or the session; pg_stats and pg_stats_ext read replicated tables.
_RELATIONS: Final = re.compile(
    r"pg_stat_\w+|pg_statio_\w+|pg_locks|pg_settings|pg_file_settings|pg_hba_file_rules|pg_ident_file_mappings"
    r"|pg_cursors|pg_prepared_statements|pg_prepared_xacts|pg_replication_slots|pg_replication_origin_status"
    r"|pg_shmem_allocations\w*|pg_backend_memory_contexts|pg_available_extensions|pg_available_extension_versions"
    r"|pg_timezone_names|pg_timezone_abbrevs|pg_config|pg_sequences|pg_aios|pg_wait_events|pg_temp\w*|pg_toast_temp\w*"
    r"|pg_buffercache\w*")

# Columns of a sequence's own row: a standby's lies ahead, by up to SEQ_LOG_VALS values.
SEQUENCE_COLUMNS: Final = frozenset({"last_value", "log_cnt", "is_called"})


def is_local_function(name: str) -> bool:
    return name in CLOCK or name in FUNCTIONS or name in SLEEPING or name.startswith(_FUNCTION_PREFIXES)


def is_clock_string(text: str) -> bool:
    return len(text) <= LONGEST_DATE and _CLOCK_STRING(text) is not None


def is_local_relation(name: str) -> bool:
    return _RELATIONS.fullmatch(name) is not None
