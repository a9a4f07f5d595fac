"""`pgsplit.lsn` and `pgsplit.min_lsn` of one session: a position that is told, and one that is asked for.

Both live on the primary, as options of the session there: it tells the position and rolls the option back. What it
would not notice, a value that is no position on its term, it is made to answer with an error ahead of the statement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ..classify.facts import Facts, Tx
from ..classify.set_commands import ALL
from .settings import Ahead, run
from .token import HINT, INVALID, Refused, Term, Token, judge

MIN_LSN: Final = "pgsplit.min_lsn"
# The timeline is the first part of a segment's name (manual 9.28.3). Names mean the same whatever the search_path is.
_TELL: Final = """select pg_catalog.set_config('pgsplit.lsn', pg_catalog.concat($1::pg_catalog.text, '/',
  pg_catalog.ltrim(pg_catalog.substr(pg_catalog.pg_walfile_name(l), 1, 8), '0'), '/', l), false)
  from pg_catalog.pg_current_wal_insert_lsn() as l"""
_COMPLAIN: Final = """do $pgsplit$ begin
  raise exception using errcode = '{}', message = '{}', hint = '{}';
end $pgsplit$"""
_CHECK: Final = f"""do $pgsplit$ declare asked pg_catalog.text := pg_catalog.current_setting('{MIN_LSN}', true);
begin
  if asked operator(pg_catalog.!~*) '{{}}' then
    raise exception using errcode = '22023', message = pg_catalog.concat('{INVALID}"', asked, '"'), hint = '{{}}';
  end if;
end $pgsplit$"""
_UNFIT: Final = re.compile(r"[^ -~]|[$\\]")
_NO_TERM: Final = Refused("55000", "pgsplit.lsn is not known",
                          "The session has no primary, or may not read its system identifier, and the monitor may not.")
_WROTE: Final = Refused("25001", "pgsplit.lsn cannot be told in a transaction, or a batch, that may have written",
                        "Ask behind its end, in a batch of its own.")


class Lsn:
    """*term*: of the session's primary now.

    *token* is what `pgsplit.min_lsn` asks for; *refused*, when it asks for what cannot be: the next statements' error.
    """

    __slots__ = ("_checks", "_term", "_unseen", "refused", "token")

    def __init__(self, term: Callable[[], Term | None] = lambda: None) -> None:
        self._term = term
        self._unseen = False            # it was set to what the text does not show, and not looked at since
        self._checks = False            # what `ahead` has given last looks at it
        self.token: Token | None = None
        self.refused: Refused | None = None

    @property
    def is_set(self) -> bool:
        return self.token is not None or self.refused is not None

    def take(self, text: str) -> None:
        """The option's value as it now is; empty: none."""
        found = judge(text, self._term())
        self.token = found if isinstance(found, Token) else None
        self.refused = found if isinstance(found, Refused) else None
        self._unseen = False

    def given(self) -> None:
        """It may have been set at the login."""
        self._unseen = True

    def leaves(self, facts: Facts) -> None:
        """A statement of these *facts*, which may set it, leaves for the primary."""
        self._unseen |= len(facts.min_lsns) != facts.settings.count(MIN_LSN)

    def ahead(self, facts: Sequence[Facts], texts: Iterable[Facts], before: Iterable[Facts] = (), *,
              wrote: Callable[[], bool]) -> list[Ahead]:
        """What the primary is told ahead of statements of these *facts*, and of *texts* that are parsed. *before*:
        others of their batch, which it has already. *wrote*: whether their transaction may have written. Where that
        leaves, `told` is to be called.
        """
        ahead = []
        self._checks = False
        if (self.refused is not None or self._unseen) and facts and not any(_lifts(each) for each in facts):
            if self.refused is not None:
                return [complain(self.refused)]
            self._checks = True
            ahead.append(_check(self._term()))
        for text in (text for each in facts for text in each.min_lsns):
            found = judge(text, self._term())
            if isinstance(found, Refused):
                return [*ahead, complain(found)]
        if any(each.tells_lsn for each in (*facts, *texts)):
            ahead.append(self._tell([*before, *facts], wrote()))
        return ahead

    def told(self) -> None:
        """What `ahead` has given last is on its way."""
        self._unseen &= not self._checks

    def _tell(self, facts: list[Facts], wrote: bool) -> Ahead:
        """The end of the log now, which is behind all that anybody has been told of; but of what is not committed yet
        it would say nothing.
        """
        term = self._term()
        statements = [part for each in facts for part in each.parts or (each,)]
        if wrote or any(not each.tells_lsn and (not each.wrote_nothing or each.tx is Tx.END) for each in statements):
            return complain(_WROTE)
        if term is None:
            return complain(_NO_TERM)
        return run(_TELL, [(term.system_identifier.encode(),)], row=True)


def _lifts(facts: Facts) -> bool:
    """Whether a statement may change the option, or ends what it cannot be changed in."""
    return (MIN_LSN in facts.settings or facts.releases or facts.tx is Tx.END
            or any(change.name == ALL for change in facts.changes))


def complain(refused: Refused) -> Ahead:
    """Make a server answer with this error: so its transaction fails, and what comes behind is skipped."""
    return run(_COMPLAIN.format(*(_literal(text) for text in refused)))


def _check(term: Term | None) -> Ahead:
    hexadecimal = "[0-9a-f]{1,8}"
    ours = f"|{term.system_identifier}/0*{term.timeline:x}/{hexadecimal}/{hexadecimal}" if term is not None else ""
    return run(_CHECK.format(f"^({ours})$", _literal(HINT)))


def _literal(text: str) -> str:
    """For between two quotes, whatever the session's settings of strings are."""
    return _UNFIT.sub("?", text).replace("'", "''")
