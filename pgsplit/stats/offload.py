"""Off-load: how many of the reads replicas have answered, and, by group, what has kept the others on the primary."""

from __future__ import annotations

from array import array
from typing import Final, NamedTuple

REPLICA_ERROR: Final = "replica_error_"      # what the rules begin with that have an SQLSTATE in their name


class Group(NamedTuple):
    """*rules*: of classify/rules.py, those that keep a read for this. What a transaction keeps there has no rule."""

    name: str
    words: str
    rules: tuple[str, ...] = ()


# The first is what relays take for the least: a transaction is open on the primary, and no more is known.
KEPT: Final = (
    Group("before_write", "in a transaction that is open on the primary and has written nothing",
          ("transaction_open",)),
    Group("after_write", "in a transaction that has written, or may have"),
    Group("read_only", "in a READ ONLY transaction that is open on the primary"),
    Group("isolation", "in a transaction that is not READ COMMITTED"),
    Group("clock", "the server's clock decides", ("clock", "clock_apart")),
    Group("function", "calls a function that is not known to be safe", ("unknown_function", "listed_function")),
    Group("catalogue", "names what the database's definitions make doubtful, or these were not known",
          ("definitions_unknown", "hidden_doubt", "unknown_relation")),
    Group("server_local", "asks for what a server knows of itself, its session or its transaction",
          ("server_local_function", "server_local_relation", "server_local_setting", "sequence_row", "relation_kind")),
    Group("cursor", "FETCH from a cursor on the primary", ("cursor",)),
    Group("asked_for", "a comment, or pgsplit.route, asks for the primary", ("hint_primary", "route_setting")),
    Group("no_fresh_replica", "no replica was fresh enough within fence_wait", ("no_fresh_replica", "min_lsn_term")),
    Group("no_replica", "the session had no replica that it could use",
          ("no_replica", "primary_changed", "replica_lost", "replica_out")),
    Group("replica_error", "a replica answered with an error, and the primary was asked", (REPLICA_ERROR,)),
    Group("pinned", "something of the session is on the primary only",
          ("pinned_advisory_lock", "pinned_hold_cursor", "pinned_library", "pinned_listen", "pinned_random_seed",
           "pinned_serializable", "pinned_temporary_object", "pinned_unknown_effect", "pinned_unknown_settings")),
    Group("settings", "the replica's settings were not known to be the session's",
          ("configuration_changed", "settings_refused", "state_unknown")),
    Group("prepared", "its batch makes or closes a prepared statement, or a replica cannot have the same",
          ("named_statement", "prepared_on_primary", "unnamed_statement")),
    Group("portal", "by a portal that stays", ("portal_elsewhere", "portal_kept")),
    Group("pipelined", "behind a batch that the primary had not answered", ("pipelined_behind_primary",)),
    Group("batch", "outside a transaction, in one batch with what is no read"),
    Group("no_sync", "its Sync had not come", ("flush_without_sync", "sync_awaited")),
    Group("too_long", "longer than what is looked at, or held back", ("batch_too_large", "statement_too_long")),
    Group("ordered", "the operator has sent all reads to the primary", ("reads_to_primary",)),
    Group("sole", "the session has one server only", ("sole_upstream",)),
    Group("observed", "a replica would have been asked, but the mode is observe", ("observed",)),
)
# Behind these a transaction has written, or may have, or holds locks.
WRITES: Final = frozenset({
    "copy", "data_modifying_with", "ddl", "doubt", "function", "function_call_message", "lock", "locking_clause",
    "maintenance", "not_lexed", "notification", "select_into", "unknown_effect", "write", "write_digest"})
# What keeps no read, and is none that is kept.
NEITHER: Final = frozenset({
    "begin_held", "empty_query", "explain", "hint_replica", "login", "malformed_message", "nothing_to_run", "read",
    "read_write_anyway", "replica_clock", "transaction_failed",
    "session_setting", "sets_the_stage", "sql_prepared_statement", "transaction_control", "transaction_ended"})

BY_NAME: Final = {group.name: place for place, group in enumerate(KEPT)}
BY_RULE: Final = {rule: place for place, group in enumerate(KEPT) for rule in group.rules}
BEFORE_WRITE: Final = BY_NAME["before_write"]
AFTER_WRITE: Final = BY_NAME["after_write"]
BATCH: Final = BY_NAME["batch"]
OBSERVED: Final = BY_NAME["observed"]


def group_of(rule: str) -> int:
    """The place in KEPT of a read that is kept by *rule*, which may be another statement's of its batch."""
    if rule.startswith(REPLICA_ERROR):
        rule = REPLICA_ERROR
    return BY_RULE.get(rule, BATCH)


class ReadStats:
    """A listener's. Times in microseconds. *kept*: of each group how many, and their time; relays count into it."""

    __slots__ = ("kept", "replica", "replica_us")

    def __init__(self) -> None:
        self.replica = self.replica_us = 0
        self.kept = array("q", [0]) * (2 * len(KEPT))

    def keep(self, group: int, count: int, microseconds: int) -> None:
        self.kept[2 * group] += count
        self.kept[2 * group + 1] += microseconds

    def sums(self) -> dict[str, int]:
        """All reads, and those that a replica has answered or would have (`OBSERVED`), with their times."""
        return {"reads": self.replica + sum(self.kept[::2]), "reads_us": self.replica_us + sum(self.kept[1::2]),
                "moves": self.replica + self.kept[2 * OBSERVED],
                "moves_us": self.replica_us + self.kept[2 * OBSERVED + 1]}

    def add(self, other: ReadStats) -> None:
        self.replica += other.replica
        self.replica_us += other.replica_us
        for place, number in enumerate(other.kept):
            self.kept[place] += number

    def to_dict(self, root: str) -> dict[str, int]:
        found = {f"{root}.reads.replica": self.replica, f"{root}.reads.primary": sum(self.kept[::2]),
                 f"{root}.reads_us.replica": self.replica_us, f"{root}.reads_us.primary": sum(self.kept[1::2])}
        for place, group in enumerate(KEPT):
            if self.kept[2 * place]:
                found[f"{root}.reads_kept.{group.name}"] = self.kept[2 * place]
                found[f"{root}.reads_kept_us.{group.name}"] = self.kept[2 * place + 1]
        return found
