"""The rule table: every reason that a decision can have, in words (guarantee G7)."""

from __future__ import annotations

from typing import Final, NamedTuple


class Rule(NamedTuple):
    name: str
    upstream: str            # replica, primary, either, or pgsplit itself
    words: str


_TABLE: Final = (
    # of the text
    Rule("read", "replica", "a read, every word of which is known to be harmless"),
    Rule("empty_query", "either", "no statement at all: answered where the session stands"),
    Rule("hint_replica", "replica", "a comment asks for a replica, and the statement begins as a read"),
    Rule("hint_primary", "primary", "a comment asks for the primary"),
    Rule("listed_function", "either", "a function in replica_functions, or in primary_functions"),
    Rule("write", "primary", "INSERT, UPDATE, DELETE or MERGE"),
    Rule("ddl", "primary", "changes definitions, privileges or whole tables"),
    Rule("maintenance", "primary", "VACUUM, ANALYZE, REINDEX and their like"),
    Rule("transaction_control", "primary", "begins or ends a transaction, or a part of one"),
    Rule("session_setting", "primary", "changes a setting of the session"),
    Rule("sql_prepared_statement", "primary", "PREPARE and DEALLOCATE: the primary keeps such statements"),
    Rule("unknown_effect", "primary", "DO, CALL or EXECUTE: the text does not show what it does"),
    Rule("cursor", "either", "a cursor: on the primary, or on a replica in a READ ONLY transaction"),
    Rule("notification", "primary", "LISTEN, NOTIFY, UNLISTEN"),
    Rule("lock", "primary", "LOCK TABLE"),
    Rule("server_local_setting", "primary", "SHOW: a server's own setting"),
    Rule("copy", "primary", "COPY from anywhere, or to a file or program"),
    Rule("explain", "primary", "EXPLAIN of what is no read, or EXPLAIN ANALYZE"),
    Rule("select_into", "primary", "SELECT INTO makes a table"),
    Rule("locking_clause", "primary", "FOR UPDATE, FOR SHARE and their like lock rows"),
    Rule("data_modifying_with", "primary", "a common table expression that writes"),
    Rule("clock", "primary", "the server's clock decides, and a replica's may differ"),
    Rule("replica_clock", "replica", "a read but for the clock, and that of the replica is near enough"),
    Rule("server_local_relation", "primary", "a view of what this server does, not of the data"),
    Rule("server_local_function", "primary", "a function that answers for this server, session or transaction"),
    Rule("sequence_row", "primary", "a sequence's own row, which lies ahead on a standby"),
    Rule("function", "primary", "a function with an effect, or that answers for this server"),
    Rule("unknown_function", "primary", "a function that is not known to be a read"),
    Rule("unknown_relation", "primary", "a relation that the catalogue does not have, or not yet"),
    Rule("relation_kind", "primary", "a foreign or unlogged table or a sequence, which the primary alone has"),
    Rule("hidden_doubt", "primary", "a view, policy, type or operator that leads to what is not known to be a read"),
    Rule("not_lexed", "primary", "PostgreSQL's scanner would refuse it, or pgsplit does not understand it"),
    Rule("statement_too_long", "primary", "longer than max_statement_bytes"),
    Rule("doubt", "primary", "not understood"),
    Rule("write_digest", "primary", "a replica has answered this text with 25006"),
    # of the session
    Rule("begin_held", "pgsplit", "BEGIN is answered at once, and opened where its first statement goes"),
    Rule("transaction_ended", "pgsplit", "the end of a transaction that has only read, or run nothing"),
    Rule("sets_the_stage", "replica", "a savepoint, SET LOCAL and its like in a transaction that reads"),
    Rule("read_write_anyway", "pgsplit",
         "SET TRANSACTION READ WRITE in a transaction that may write, and has only read"),
    Rule("transaction_failed", "either", "the transaction has failed, and the server that knows it says so"),
    Rule("portal_kept", "primary", "in a transaction that may write a named portal may be gone on with later"),
    Rule("transaction_open", "primary", "a transaction is open"),
    Rule("pipelined_behind_primary", "primary", "a batch before it is not answered by the primary yet"),
    Rule("nothing_to_run", "primary", "no statement is run: Parse, Describe, Close or Sync alone"),
    Rule("named_statement", "primary", "makes or closes a named prepared statement: the primary has them all"),
    Rule("prepared_on_primary", "primary", "a replica cannot have the same prepared statement: definitions changed"),
    Rule("unnamed_statement", "primary", "closes the unnamed prepared statement"),
    Rule("portal_elsewhere", "either", "the portal that it uses was bound before"),
    Rule("flush_without_sync", "primary", "Flush, or another message, before the batch's Sync"),
    Rule("sync_awaited", "primary", "its Sync has not come for a while, and a server tells an error without one"),
    Rule("function_call_message", "primary", "a FunctionCall message"),
    Rule("malformed_message", "primary", "a message that PostgreSQL will refuse"),
    Rule("batch_too_large", "primary", "larger than what is held back for one client"),
    Rule("state_unknown", "primary", "the primary was kept from telling the session's state; the next read asks again"),
    Rule("settings_refused", "primary", "the replica would not take the session's settings or role"),
    Rule("route_setting", "either", "pgsplit.route says so"),
    Rule("sole_upstream", "either", "the session has one upstream only"),
    Rule("login", "either", "nothing has been sent yet"),
    # of the replica
    Rule("observed", "primary", "a replica would have been asked, but the listener's mode is observe"),
    Rule("reads_to_primary", "primary", "the operator has sent all reads to the primary"),
    Rule("no_replica", "primary",
         "the session has no replica, and none was to be had within a second; its page and the log say why"),
    Rule("replica_out", "primary", "its replica is not to be used: see the health check"),
    Rule("no_fresh_replica", "primary", "no replica was fresh enough within fence_wait"),
    Rule("clock_apart", "primary", "the replica's clock is not known to be within max_clock_skew of the primary's"),
    Rule("min_lsn_term", "primary", "pgsplit.min_lsn is no position on the primary's term"),
    Rule("definitions_unknown", "primary", "the database's definitions have changed, or cannot be read"),
    Rule("configuration_changed", "primary", "a server's configuration has changed: the replica's settings are due"),
    Rule("primary_changed", "primary", "the session's primary is not the cluster's any more, so no replica is its"),
    Rule("replica_lost", "primary", "the replica went away before its answer was whole"),
)
_PINS: Final = (
    Rule("pinned_temporary_object", "primary", "the session may have temporary objects"),
    Rule("pinned_advisory_lock", "primary", "the session may hold an advisory lock"),
    Rule("pinned_listen", "primary", "the session listens for notifications"),
    Rule("pinned_hold_cursor", "primary", "the session has a cursor WITH HOLD"),
    Rule("pinned_random_seed", "primary", "the session has set the seed of random()"),
    Rule("pinned_unknown_settings", "primary", "something may have set an option whose name is not known"),
    Rule("pinned_serializable", "primary", "transactions of the session are serializable, which a standby's cannot be"),
    Rule("pinned_library", "primary", "the session has loaded a library"),
    Rule("pinned_unknown_effect", "primary", "something ran that may have changed the session"),
)
RULES: Final = {rule.name: rule for rule in (*_TABLE, *_PINS)}
REASKED: Final = Rule("replica_error_<SQLSTATE>", "primary", "a replica answered with this error; the primary is asked")
