"""Refusing a user who may not log in, without showing that to anybody."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from ..auth import mock
from ..auth.secret import Kind, Secret, Verifier
from ..config.model import User
from ..errors import ServerError
from ..upstream.login import CLEARTEXT, MD5, SASL_CONTINUE, Credentials, wrong_password
from ..upstream.stream import Stream
from .client_certificate import own_secret
from .exchange import Exchange

# In the place of the client's answer to these requests. A server that let a guess pass, and pgsplit that refused it
# then, would together be a way to try passwords of users who are not let in here.
WRONG: Final[dict[int, Callable[[bytes], bytes]]] = {
    CLEARTEXT: mock.password, MD5: mock.password, SASL_CONTINUE: mock.client_final,
}


class Refusal(Exchange):
    """The exchange that a listed user meets whose password is wrong, for one who may not log in at all.

    The server is asked as for anybody: method, challenge, words and time are its own. What the client answers does not
    reach it. Where pgsplit is the SCRAM server, the challenge is `mock.verifier`'s.
    """

    def __init__(self, client: Stream, user: str, binding: bytes | None, users: Sequence[User] = ()) -> None:
        """*users*: the list, whose weakest kind of entry decides what a server may ask strangers for."""
        weak = any(own_secret(entry).kind is Kind.MD5 for entry in users)
        credentials = Credentials(user, Secret(Kind.CLEAR, secrets.token_hex(32)), kind=Kind.MD5 if weak else None)
        super().__init__(client, credentials, binding)

    def refuse(self, why: str) -> NoReturn:
        """No server is there to do it, or it has asked for nothing. *why* is for the log.

        :raises ServerError: 28P01, or what else the client's answer deserves.
        """
        try:
            if not self.asked:
                self.prove(Secret(Kind.CLEAR, ""))
            raise wrong_password(self.credentials.user)
        except ServerError as error:
            error.for_log = why
            raise

    def _read_proof(self, code: int) -> bytes:
        answer = super()._read_proof(code)
        wrong = WRONG.get(code)
        return wrong(answer) if wrong is not None else answer

    def _derived_verifier(self, secret: Secret) -> Verifier:
        return mock.verifier(self.credentials.user)
