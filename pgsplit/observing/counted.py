"""What pg_stat_statements has counted (PostgreSQL manual F.32): by text, without sessions, so without transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..classify.facts import Verdict
from ..split.reads import FREE, NO_READ, kept_by_text
from ..sql.digest import of_text, tidy
from ..stats.offload import KEPT, group_of
from .session import OTHER, READ, WRITE, Outcome
from .tally import Tally
from .watching import NO_TEXT, Classify

LONGEST: Final = 70_000         # characters: of a longer text the first word decides anyway (max_statement_bytes)
MOST: Final = 50_000            # rows, the most expensive first

INSTALLED: Final = """
select quote_ident(n.nspname), current_setting('server_version_num')
from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements'"""


def question(schema: str, version: int) -> str:
    """Text, calls, microseconds, user, database. *schema*: quoted; *version*: the server's, as a number.

    What a function has run counts as the function's own, where the server tells them apart (14).
    """
    time = "total_exec_time" if version >= 130000 else "total_time"
    return f"""
select left(query, {LONGEST}), calls, ({time} * 1000)::bigint, coalesce(r.rolname, userid::text),
  coalesce(d.datname, dbid::text)
from {schema}.pg_stat_statements s left join pg_roles r on r.oid = userid left join pg_database d on d.oid = dbid
{"where toplevel" if version >= 140000 else ""} order by {time} desc limit {MOST}"""


def count(rows: Sequence[Sequence[bytes | None]], tally: Tally, classify: Classify) -> None:
    """Add *rows*, the answer to `question`, to *tally*."""
    for query, calls, us, user, database in rows:
        number, time = int(calls or 0), int(us or 0)
        sql = (query or b"").decode(errors="surrogateescape")
        name = (database or b"").decode(errors="replace")
        facts = classify(query or b"", name) if sql.strip() not in NO_TEXT else None
        if facts is None or facts.reason == "not_lexed":
            tally.unknown(time, number)
            continue
        by_text = kept_by_text(facts)
        detail = f"{facts.reason}: {facts.detail}" if facts.detail else facts.reason
        if by_text == NO_READ:
            outcome = Outcome(WRITE if facts.writes and facts.tx is None else OTHER, facts.reason)
        elif facts.verdict is Verdict.READ and not facts.unsure:
            outcome = Outcome(READ, facts.reason)
        elif facts.verdict is Verdict.READ:
            outcome = Outcome(READ, "unknown_relation", KEPT[group_of("unknown_relation")].name, facts.unsure)
        else:
            outcome = Outcome(READ, facts.reason, KEPT[by_text if by_text != FREE else group_of(facts.reason)].name,
                              detail)
        tally.add(outcome, {"user": (user or b"").decode(errors="replace"), "database": name,
                            "digest": tidy(of_text(sql)).rstrip(" ;")}, number).time(time)
