"""What moves the reads that a reason keeps on the primary, or why they rightly stay there: a line a reason.

The names of REMEDIES are those of the rules (classify/rules.py) that send something to the primary, and the names of
OF_GROUPS those of what keeps reads (stats/offload.py). `explain`, `observe`, `report` and the page say the same.
"""

from __future__ import annotations

from typing import Final

from .offload import REPLICA_ERROR

_STAYS: Final = "it rightly stays: only the primary can run it"
_SESSION: Final = "end it when it is done with (DISCARD ALL in the pool's reset query), or give it a session of its own"
_FRESH: Final = "raise fence_wait, or weaken consistency where older answers will do; look at the standby's replay lag"
_SYSTEM: Final = "it rightly stays: each server answers for itself; a comment, /* pgsplit: replica */, overrules that"
_OBSERVED: Final = "set mode: split, and reload: new sessions have these reads on replicas"
_BACK: Final = "nothing is to be done if it passes; else the log and the page Clusters say what is wrong"

REMEDIES: Final = {
    # of the text
    "hint_primary": "take the comment out where the read may be a replica's",
    "listed_function": "take the function out of primary_functions where it only reads",
    "write": _STAYS, "ddl": _STAYS, "maintenance": _STAYS, "lock": _STAYS, "copy": _STAYS, "select_into": _STAYS,
    "data_modifying_with": _STAYS, "write_digest": _STAYS,
    "transaction_control": "a plain BEGIN is held (hold_begin, transactions: until_write); others open the transaction",
    "session_setting": "set it once a connection, or by SET LOCAL in a transaction, or by ALTER ROLE … SET",
    "sql_prepared_statement": "prepare by the driver's protocol, or EXECUTE it: what it runs may be a replica's",
    "unknown_effect": "send the statements themselves where a DO block or a procedure only reads",
    "cursor": "begin the transaction READ ONLY: then cursors read on a replica",
    "notification": "LISTEN in a session of its own, so that the others are not kept with it",
    "server_local_setting": "ask for it once a connection; settings that are compared are answered by a replica",
    "explain": "EXPLAIN without ANALYZE of a read is a replica's; ask a standby directly for its own plan",
    "locking_clause": "leave FOR UPDATE or FOR SHARE out where the row is only read",
    "clock": "set clock: replica, or give the time as a parameter",
    "server_local_relation": _SYSTEM, "server_local_function": _SYSTEM, "sequence_row": _SYSTEM,
    "function": "it has an effect, or answers for its server: call it apart from what only reads",
    "unknown_function": "let pgsplit read the catalogue (catalogue: true), and declare the function STABLE if it only "
                        "reads; or name it in replica_functions",
    "unknown_relation": "it was just made, or its name is misspelt; one that others make is known seconds later",
    "relation_kind": "ALTER TABLE … SET LOGGED for an unlogged table; of foreign tables and sequences it rightly stays",
    "hidden_doubt": "explain --database says which function it leads to: declare that STABLE, or name it in "
                    "replica_functions",
    "not_lexed": "PostgreSQL refuses most of such texts: see its error; identifiers by U&\"…\" are not understood",
    "statement_too_long": "raise max_statement_bytes, or send long values as parameters",
    "doubt": "report the command if it is PostgreSQL's; /* pgsplit: replica */ does nothing for what is no SELECT",
    # of the session
    "transaction_failed": "the error ahead of it is what to look at",
    "portal_kept": "read without a named portal (a driver's server-side cursor), or begin the transaction READ ONLY",
    "transaction_open": "write as late in a transaction as can be; read ahead of that, or in autocommit",
    "pipelined_behind_primary": "pipeline reads ahead of writes, or on a connection of their own",
    "nothing_to_run": "it is what a driver asks when it prepares: prepare once, or less often (prepare_threshold)",
    "named_statement": "it is made once; let the driver keep its statements, and the pool its connections",
    "prepared_on_primary": "prepare it again (DEALLOCATE, or a new connection) behind a change of definitions",
    "unnamed_statement": "it is what the driver does; a newer version of it may close no unnamed statement",
    "portal_elsewhere": "fetch in one go, or begin the transaction READ ONLY",
    "flush_without_sync": "end the driver's pipeline with Sync, or use another mode of it",
    "sync_awaited": "the client sends its Sync late: look at what it waits for",
    "function_call_message": "large objects by libpq's calls rightly stay; bytea columns read as others do",
    "malformed_message": "the client sends what PostgreSQL refuses: look at its error",
    "batch_too_large": "raise reask_buffer and max_statement_bytes, or send less in one batch",
    "state_unknown": _BACK,
    "settings_refused": "give the replica's role the same rights and settings; the log says what it refused",
    "route_setting": "RESET pgsplit.route where it is not meant any more",
    "sole_upstream": "list the user in user_list, so that the session has both servers; or the listener does not split",
    "login": "nothing: no statement has come yet",
    # of the replica
    "observed": _OBSERVED,
    "reads_to_primary": "take the order back on the page Clusters",
    "no_replica": "look at why it has none: the page Sessions, and check --connect, say it",
    "replica_out": "look at the health check of its host: the page Clusters says why it is out",
    "no_fresh_replica": _FRESH,
    "clock_apart": "keep the servers' clocks (chrony), raise max_clock_skew, or give up clock: replica",
    "min_lsn_term": "ask for pgsplit.lsn anew: the position was of another primary",
    "definitions_unknown": "make tables elsewhere than in the application's hours; the monitor must reach the database",
    "configuration_changed": _BACK, "primary_changed": _BACK, "replica_lost": _BACK,
    # pins
    "pinned_temporary_object": "drop it at the transaction's end (ON COMMIT DROP), or read in a session without it",
    "pinned_advisory_lock": "lock with pg_advisory_xact_lock, which ends with its transaction, or unlock earlier",
    "pinned_listen": "LISTEN in a connection of its own: all other reads of this one stay",
    "pinned_hold_cursor": "close it as soon as it is read",
    "pinned_random_seed": "leave setseed() out, or connect anew behind it",
    "pinned_unknown_settings": "name the options in set_config() as constants; DISCARD ALL ends it",
    "pinned_serializable": "set default_transaction_isolation to read committed where that is enough, and begin those "
                           "that need more by BEGIN ISOLATION LEVEL SERIALIZABLE",
    "pinned_library": "load it by session_preload_libraries", "pinned_unknown_effect": _SESSION,
    REPLICA_ERROR: "the replica's log has its errors: look for conflicts with recovery",
}

OF_GROUPS: Final = {
    "observed": _OBSERVED,
    "before_write": "move what opens the transaction on the primary (see the detail) behind its reads, or out of it",
    "after_write": "it rightly stays, it may see the write; read ahead of the write, or begin a READ ONLY transaction",
    "read_only": "set repeatable_read_only: replica, or begin it READ COMMITTED",
    "isolation": "BEGIN ISOLATION LEVEL READ COMMITTED, or READ ONLY, where the reads allow it",
    "catalogue": "explain --database says which object it is; the page Routing whether the catalogue can be read",
    "server_local": _SYSTEM,
    "asked_for": "take the comment out, or RESET pgsplit.route",
    "replica_error": "the replica's log has its errors; 40001 and 57014 are conflicts: hot_standby_feedback, "
                     "max_standby_streaming_delay",
    "pinned": _SESSION,
    "settings": _BACK,
    "prepared": "let the driver prepare once and keep it",
    "portal": "fetch in one go, or begin the transaction READ ONLY",
    "pipelined": "pipeline reads ahead of writes, or on a connection of their own",
    "batch": "send reads in a text, or a pipeline, of their own",
    "no_sync": "end the driver's pipeline with Sync, or use another mode of it",
    "too_long": "raise max_statement_bytes, or send long values as parameters",
    "ordered": "take the order back on the page Clusters",
    "sole": "list the user in user_list, so that the session has both servers; or the listener does not split",
    "function": REMEDIES["unknown_function"],
    "clock": REMEDIES["clock"], "cursor": REMEDIES["cursor"], "no_fresh_replica": _FRESH,
    "no_replica": REMEDIES["no_replica"],
}


def remedy(rule: str) -> str:
    """For what *rule* keeps on the primary; empty for one that keeps nothing there."""
    return REMEDIES.get(REPLICA_ERROR if rule.startswith(REPLICA_ERROR) else rule, "")
