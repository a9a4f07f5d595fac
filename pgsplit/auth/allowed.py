"""What a server may ask for before it lets a user in: `upstream_auth`, or the default where that names nothing.

Whoever answers at an address may ask for what it likes: for a clear password, or for an md5 response, from which the
password is found with little effort. So what an entry can do by SCRAM is done by nothing else, unless the server is
known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from ..errors import ServerError
from .secret import Kind

NONE: Final = "none"
# By the code of the Authentication message (PostgreSQL manual 55.7), in the words of libpq's require_auth (34.1.2).
METHODS: Final[Mapping[int, str]] = {0: NONE, 3: "password", 5: "md5", 10: "scram-sha-256"}
ASKED: Final[Mapping[str, str]] = {NONE: "nothing", "password": "a clear password", "md5": "an md5 password",
                                   "scram-sha-256": "SCRAM-SHA-256"}
# The strongest that an entry can do. One that can do nothing is in no danger, nor is one that there is not: what the
# server asks is the client's to answer then. With an md5 hash the client's own exchange by SCRAM can still be relayed.
STRONGEST: Final[Mapping[Kind | None, frozenset[str]]] = {
    Kind.CLEAR: frozenset({"scram-sha-256"}), Kind.SCRAM: frozenset({"scram-sha-256"}),
    Kind.MD5: frozenset({"md5", "scram-sha-256"}),
}
ANY: Final = frozenset(METHODS.values()) - {NONE}


class NotAllowed(ServerError):
    """A server asks for what it does not get."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """*remedy*: what else an operator may do than name the method."""

    methods: frozenset[str]
    remedy: str = ""

    def check(self, server: str, code: int) -> None:
        """Look at *server*'s request *code*, AuthenticationOk as the first one among them. A code that is no method of
        `METHODS` is left to whoever cannot answer it.

        :raises NotAllowed: FATAL 28000, which names the server, the method and what to set. The words are the same
            whatever the user's entry is, and whether there is one.
        """
        method = METHODS.get(code, "")
        if not method or method in self.methods:
            return
        remedy = "" if method == NONE else self.remedy
        raise NotAllowed("28000", f"{server} asks for {ASKED[method]}, which its cluster's upstream_auth does not "
                         f"allow: name {method} there{remedy}", severity="FATAL")


def allowed(named: Collection[str], kind: Kind | None, *, verified: bool, local: bool, certificate: bool) -> Allowed:
    """*named*: the methods of `upstream_auth`; empty: the default, which rests on all that follows.

    *kind*: of the user's entry, None without one. *verified*: the server's certificate was checked. *local*: it is on
    this machine. *certificate*: pgsplit has shown one of its own, which a server may let in without a question.
    """
    if named:
        return Allowed(frozenset(named))
    nothing = {NONE} if local or (verified and certificate) else set()
    if verified:
        return Allowed(ANY | nothing)
    return Allowed(STRONGEST.get(kind, ANY) | nothing, ", or have the server's certificate checked by a CA")
