"""Users who are in no list, as the primary knows them: asked for by ``auth_query``, and remembered for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gevent.lock import BoundedSemaphore

from .. import log
from ..auth.secret import Kind, Secret, parse
from ..upstream.auth_query import CannotAsk

logger = log.get("pgsplit.login")

FOR_NS: Final = 10_000_000_000       # so long an answer is good, where nothing has been written through this node since
MOST: Final = 10_000                 # users that are remembered
AT_ONCE: Final = 4                   # connections to ask on

Ask = Callable[[str], str | None]
"""What `auth_query` has for a user. :raises CannotAsk: as upstream/auth_query.py says."""


@dataclass(frozen=True, slots=True)
class _Answer:
    secret: Secret
    as_of_ns: int


class AskedUsers:
    """Of one listener in one worker. *latest_write_ns*: when somebody last wrote through this node, which may have been
    an ALTER ROLE.
    """

    def __init__(self, ask: Ask, latest_write_ns: Callable[[], int]) -> None:
        self._ask = ask
        self._latest_write_ns = latest_write_ns
        self._known: dict[str, _Answer] = {}
        self._turns = BoundedSemaphore(AT_ONCE)

    def find(self, user: str) -> Secret | None:
        """The secret of *user*; None: the primary knows no such user, or none that has a password.

        It may be out of date, which the server finds out that the user logs in to. While nobody can be asked it is what
        was known last.

        :raises CannotAsk: and nothing is known.
        """
        if (known := self._good(user)) is not None:
            return known.secret
        with self._turns:
            if (known := self._good(user)) is not None:     # somebody else has asked meanwhile
                return known.secret
            as_of_ns = time.monotonic_ns()
            try:
                secret = _secret(self._ask(user))
            except CannotAsk as error:
                known = self._known.get(user)
                if known is None:
                    raise
                logger.info("login of %s by what was known of its password: %s", user, error.for_log)
                return known.secret
        self._known.pop(user, None)         # the oldest ones stand first
        if secret is not None:
            self._known[user] = _Answer(secret, as_of_ns)
            if len(self._known) > MOST:
                del self._known[next(iter(self._known))]
        return secret

    def _good(self, user: str) -> _Answer | None:
        known = self._known.get(user)
        if known is None or time.monotonic_ns() - known.as_of_ns > FOR_NS or (
                self._latest_write_ns() >= known.as_of_ns):
            return None
        return known

    def doubt(self, user: str) -> None:
        """A login has failed: the next one asks. What is known stays for when nobody can be asked."""
        if (known := self._known.get(user)) is not None:
            self._known[user] = _Answer(known.secret, 0)

    def kinds(self) -> list[tuple[str, str]]:
        """Each user's name, and the kind of the secret: clear, md5 or scram."""
        return [(user, known.secret.kind.name.lower()) for user, known in self._known.items()]


def _secret(text: str | None) -> Secret | None:
    """Of what a server has, where `cert` is a password like any other."""
    if text is None:
        return None
    secret = parse(text)
    return Secret(Kind.CLEAR, text) if secret.kind is Kind.CERT else secret
