"""What a statement that runs on the primary leaves behind in its session: the names of pins, and session_setting."""

from __future__ import annotations

import re
from typing import Final

from ..sql.lexer import Kind, Token
from . import server_local
from .calls import calls_in, has
from .functions import SAFE

SESSION_FUNCTIONS: Final = {
    "set_config": "session_setting",
    "setseed": "random_seed",
    **dict.fromkeys(("pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock",
                     "pg_try_advisory_lock_shared"), "advisory_lock"),
}
UNLOCKING: Final = frozenset({"pg_advisory_unlock", "pg_advisory_unlock_shared", "pg_advisory_unlock_all"})
# Functions that are not reads, of which it is known that they leave nothing behind in the session, and define nothing.
NO_SESSION_EFFECT: Final = frozenset([
    "nextval", "setval", "currval", "lastval", "pg_notify", "pg_advisory_unlock", "pg_advisory_unlock_shared",
    "pg_advisory_unlock_all", "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared", "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared", "pg_current_wal_lsn", "pg_current_wal_insert_lsn",
    "pg_current_wal_flush_lsn", "pg_cancel_backend", "pg_terminate_backend", "pg_stat_clear_snapshot",
    "pg_reload_conf", "pg_switch_wal", "pg_export_snapshot", "lo_open", "lo_close", "lo_creat", "lo_create",
    "loread", "lowrite", "lo_lseek", "lo_lseek64", "lo_tell", "lo_tell64", "lo_truncate", "lo_truncate64",
    "lo_import", "lo_export", "lo_get", "lo_put", "lo_unlink", "lo_from_bytea", "current_query", "pg_read_file",
    "pg_stat_file", "pg_ls_dir", "pg_read_binary_file", "pg_ls_logdir", "pg_ls_waldir", "pg_ls_tmpdir",
    "pg_ls_archive_statusdir", "pg_ls_logicalmapdir", "pg_ls_logicalsnapdir", "pg_ls_replslotdir",
    "pg_current_logfile", "pg_rotate_logfile", "pg_hba_file_rules", "pg_ident_file_mappings",
    "pg_show_all_file_settings", "pg_get_backend_memory_contexts", "pg_log_backend_memory_contexts",
    "pg_get_shmem_allocations", "pg_lock_status", "pg_prepared_xact", "pg_safe_snapshot_blocking_pids",
    "pg_isolation_test_session_is_blocked", "pg_notification_queue_usage", "pg_is_wal_replay_paused",
    "pg_last_committed_xact", "pg_xact_commit_timestamp", "pg_xact_commit_timestamp_origin",
    "pg_get_multixact_members", "pg_create_restore_point", "pg_logical_emit_message", "pg_logical_slot_get_changes",
    "pg_logical_slot_get_binary_changes", "pg_logical_slot_peek_changes", "pg_logical_slot_peek_binary_changes",
    "pg_replication_slot_advance", "pg_replication_origin_progress", "pg_show_replication_origin_status",
    "pg_stat_force_next_flush", "pg_stat_have_stats", "pg_stat_reset", "pg_stat_reset_shared", "pg_stat_reset_slru",
    "pg_stat_reset_single_table_counters", "pg_stat_reset_single_function_counters",
    "pg_stat_reset_replication_slot", "pg_stat_reset_subscription_stats",
])
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*")


def effects_of(words: list[Token]) -> tuple[tuple[str, ...], str]:
    """What a statement that runs on the primary leaves behind in its session, and what in the text causes it."""
    first = words[0].text
    if first == "create" and any(t.kind is Kind.WORD and t.text in ("temp", "temporary") for t in words[1:6]):
        found = {"temporary_object": "CREATE TEMPORARY"}
    elif any(t.kind in (Kind.WORD, Kind.QUOTED) and t.text.startswith("pg_temp") for t in words):
        found = {"temporary_object": "pg_temp"}
    else:
        found = {}
    if first == "declare" and has(words, "hold"):
        found["hold_cursor"] = "WITH HOLD"
    if first == "create":
        if not _creates_by_query(words):
            return tuple(found), "".join(found.values())
        if has(words, "execute"):
            found["unknown_effect"] = "EXECUTE"
    for name, qualified in calls_in(words):
        if name in SESSION_FUNCTIONS and not qualified:
            found.setdefault(SESSION_FUNCTIONS[name], name)
        elif qualified or not (name in SAFE or name in NO_SESSION_EFFECT or server_local.is_local_function(name)):
            found.setdefault("unknown_effect", name)
    if found.get("session_setting") and not _constant_settings(words):
        found["unknown_settings"] = "set_config"
    return tuple(found), next(iter(found.values()), "")


def _creates_by_query(words: list[Token]) -> bool:
    """CREATE TABLE … AS and its like run a query now; a view's, a function's or an index's expressions run later."""
    kinds = {token.text for token in words[1:5] if token.kind is Kind.WORD}
    return bool(kinds & {"table", "materialized"}) and has(words, "as")


def settings_of(words: list[Token]) -> tuple[str, ...]:
    """The customized options, which have a dot in their name, that a statement names as one (manual 20.16)."""
    names = []
    if words[0].text in ("set", "reset"):
        rest = [token.text for token in words[1:6]]
        if rest[0:1] and rest[0] in ("local", "session"):
            rest = rest[1:]
        if len(rest) > 2 and rest[1] == ".":
            names.append("".join(rest[:3]))
    names += [words[index + 2].text for index in _set_configs(words) if words[index + 2].kind is Kind.STRING]
    return tuple(name.lower() for name in names if "." in name)


# As in the bodies of functions (split/state_query.py): options that a block names, and whether it may compute a name.
_OPTION_IN_BLOCK: Final = re.compile(
    r"'([A-Za-z_][A-Za-z0-9_$]*\.[A-Za-z_][A-Za-z0-9_$.]*)'"
    r"|\b(?:set|reset)\s+(?:local\s+|session\s+)?([a-z_][a-z0-9_$]*\.[a-z_][a-z0-9_$.]*)", re.IGNORECASE)
_EXECUTES: Final = re.compile(r"\bexecute\b", re.IGNORECASE)
_SETS: Final = re.compile(r"\bset\b", re.IGNORECASE)
_COMPUTES: Final = re.compile(r"set_config\s*\(\s*[^'\s]", re.IGNORECASE)


def of_block(words: list[Token]) -> tuple[tuple[str, ...], bool]:
    """Of a DO statement: the customized options that its block may set, in lower case; whether it may set others."""
    bodies = [token.text for token in words if token.kind is Kind.STRING]
    names = {name.lower() for body in bodies for found in _OPTION_IN_BLOCK.findall(body) for name in found if name}
    computes = any(_COMPUTES.search(body) or (_EXECUTES.search(body) and _SETS.search(body)) for body in bodies)
    return tuple(sorted(names)), computes


def _set_configs(words: list[Token]) -> list[int]:
    """Where set_config with two arguments or more is called."""
    return [index for index in range(len(words) - 3) if words[index].text == "set_config"
            and words[index].kind in (Kind.WORD, Kind.QUOTED) and words[index + 1].text == "("]


def _constant_settings(words: list[Token]) -> bool:
    """Whether each set_config names its setting by a plain constant."""
    calls = sum(name == "set_config" for name, _ in calls_in(words))
    constant = [index for index in _set_configs(words) if words[index + 2].kind is Kind.STRING
                and _PLAIN_NAME.fullmatch(words[index + 2].text) and words[index + 3].text == ","]
    return calls == len(constant)


def ends_of(words: list[Token]) -> tuple[str, ...]:
    return ("advisory_lock",) if any(name in UNLOCKING for name, _ in calls_in(words)) else ()
