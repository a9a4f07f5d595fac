"""The authentication exchange between a client and the upstream it logs in to: relayed, or ended by pgsplit (SCRAM)."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final, NoReturn

from ..auth import mock, scram
from ..auth.secret import Kind, Secret, Verifier, md5_response
from ..errors import ConnectionLost, ProtocolViolation, ServerError
from ..upstream import passwords
from ..upstream.connection import UpstreamConnection
from ..upstream.login import CLEARTEXT, MD5, OK, SASL, SASL_CONTINUE, SASL_FINAL, Credentials, wrong_password
from ..upstream.stream import Stream
from ..wire import build

CLIENT_MESSAGE: Final = 1 << 16       # bytes: the server's PG_MAX_AUTH_TOKEN_LENGTH


class Exchange:
    """*binding* is the listener certificate's tls-server-end-point data. *credentials* gain what the exchange shows.

    ``asked`` turns true when the client has been asked for something: from then on no other server can ask it.
    """

    def __init__(self, client: Stream, credentials: Credentials, binding: bytes | None) -> None:
        self.asked = False
        self._client = client
        self.credentials = self._credentials = credentials
        self._binding = binding

    def run(self, connection: UpstreamConnection, parameters: Mapping[str, str]) -> None:
        """Log the client in at *connection*: the server asks, the client answers, until the server is content.

        :raises ServerError: the server's refusal, its loss (08006) among them, or why the exchange cannot work.
        :raises ConnectionLost: when the client goes away. The connection is closed in any case of failure.
        """
        with connection.logging_in():
            code, data = connection.start(parameters)
            connection.check(self._credentials, code)
            while code != OK:
                code, data = self._answer(connection, code, data)
                if code != OK:
                    connection.check(self._credentials, code)
            if not self.asked and connection.shows_certificate:
                self._prove_here(connection.name)
            connection.finish()

    def _prove_here(self, server: str) -> None:
        """The server may have let in the certificate that pgsplit shows, which proves nothing of the client.

        :raises ServerError: 28P01 when the client's proof does not hold, 28000 when the list has nothing to hold it to.
        """
        secret = self._credentials.secret
        if secret is None or secret.kind is Kind.CERT:
            raise ServerError("28000", f"{server} lets pgsplit's certificate in, and the user_list has nothing by "
                              "which the client could prove itself", severity="FATAL")
        if secret.kind is Kind.MD5:
            salt = secrets.token_bytes(4)
            self._ask(MD5, salt)
            self._end_md5(secret, salt, self._read_proof(MD5))
        elif (keys := self.prove(secret)) and secret.kind is Kind.SCRAM:
            self._credentials.keys = keys

    @property
    def can_be_judged_elsewhere(self) -> bool:
        """Whether what the client has sent proves it to any server, and not only to the one that asked."""
        return self._credentials.seen_password is not None

    def _answer(self, connection: UpstreamConnection, code: int, data: bytes) -> tuple[int, bytes]:
        """Answer one request of the server; returns its next."""
        if code == SASL:
            return self._sasl(connection, data)
        if code not in (CLEARTEXT, MD5):
            self._ask(code, data)               # most clients say by themselves that they cannot
            self._read_answer()
            return connection.authenticate(self._credentials, (code, data))     # says that pgsplit cannot
        self._ask(code, data)
        answer = self._read_proof(code)
        if code == CLEARTEXT:
            text = answer.partition(b"\0")[0].decode(errors="surrogateescape")
            self._credentials.seen_password = Secret(Kind.CLEAR, text)
        return connection.request(answer)

    def _end_md5(self, secret: Secret, salt: bytes, answer: bytes) -> None:
        expected = md5_response(secret, self._credentials.user, salt).encode()
        if not hmac.compare_digest(answer.partition(b"\0")[0], expected):
            raise wrong_password(self._credentials.user)

    def _ask(self, code: int, data: bytes) -> None:
        self.asked = True
        self._client.write(build.authentication(code, data))

    def _tell_last(self, code: int, data: bytes) -> None:
        """What needs no answer goes with what comes next, as a server sends it: the client wakes up once."""
        self.asked = True
        self._client.queue(build.authentication(code, data))

    def _read_answer(self) -> bytes:
        kind, body = self._client.read_message(CLIENT_MESSAGE)
        if kind == ord("X"):
            raise ConnectionLost(self._client.name, "gave up during authentication")
        if kind != ord("p"):
            raise ProtocolViolation(f"expected password response, got message type {kind}")
        return body

    def _read_proof(self, code: int) -> bytes:
        """What the client answers to *code*, by which it proves that it knows the password."""
        return self._read_answer()

    # --- SCRAM --------------------------------------------------------------------------------------------

    def _sasl(self, connection: UpstreamConnection, data: bytes) -> tuple[int, bytes]:
        secret = self._credentials.secret
        if self._client.tls is not None and secret is not None and secret.kind is not Kind.MD5:
            self._end_scram(secret, connection, data)
            return connection.authenticate(self._credentials, (SASL, data))
        return self._relay_scram(connection, data)

    def _end_scram(self, secret: Secret, connection: UpstreamConnection, data: bytes) -> None:
        """pgsplit is the SCRAM server: two TLS legs cannot share one channel binding."""
        try:
            keys = self.prove(secret)
        except ServerError as error:
            if error.sqlstate == "28P01":
                with suppress(ConnectionLost, ServerError):     # asked in any case: a refusal takes as long
                    salted = connection.server_salt(data)
                    if secret.verifier is not None and salted != (secret.verifier.salt, secret.verifier.iterations):
                        error.for_log = scram.STALE
            raise
        if secret.kind is Kind.SCRAM:
            self._credentials.keys = keys

    def prove(self, secret: Secret) -> scram.Keys:
        """Let the client prove by SCRAM that it knows *secret*; the keys that it has shown, if it is a verifier.

        :raises ServerError: 28P01 when it does not.
        """
        binding = self._binding if self._client.tls is not None else None
        server = scram.ScramServer(secret.verifier or self._derived_verifier(secret), binding)
        self._ask(SASL, _mechanisms(name.encode() for name in server.mechanisms))
        self._ask(SASL_CONTINUE, server.first(*split_initial(self._read_answer())))
        try:
            final, keys = server.final(self._read_answer())
        except scram.ScramError as error:
            if error.sqlstate != "28P01":
                raise
            raise wrong_password(self._credentials.user) from None
        self._tell_last(SASL_FINAL, final)
        return keys

    def _derived_verifier(self, secret: Secret) -> Verifier:
        salt = mock.salt(self._credentials.user)
        salted = passwords.salted(scram.normalise(secret.text), salt, scram.ITERATIONS)
        return scram.verifier_of(scram.keys_of(salted, salt, scram.ITERATIONS))

    def _relay_scram(self, connection: UpstreamConnection, data: bytes) -> tuple[int, bytes]:
        """The server's own exchange with the client. -PLUS is taken out of the offer: it binds to one TLS leg."""
        offered = [word for word in data.split(b"\0") if word]
        kept = [word for word in offered if word != scram.SCRAM_PLUS.encode()]
        secret = self._credentials.secret
        observer, why = scram.ScramObserver(secret.verifier) if secret and secret.verifier else None, ""
        self._ask(SASL, _mechanisms(kept))
        initial = self._read_answer()
        first = split_initial(initial)[1]
        if first.startswith(b"y") and len(kept) < len(offered):
            raise ServerError(
                "28000", "SCRAM cannot be relayed between two TLS connections to a client that binds to its channel",
                severity="FATAL", hint="Give the user's password or SCRAM verifier in user_list.")
        if observer:
            observer.client_first(first)
        challenge = connection.expect(SASL_CONTINUE, initial)
        try:
            if observer:
                observer.server_first(challenge)
        except scram.StaleVerifier as stale:
            why = str(stale)
        self._ask(SASL_CONTINUE, challenge)
        final = self._read_proof(SASL_CONTINUE)
        if why:
            self._refuse(connection, final, why)
        if observer:
            self._credentials.keys = observer.client_final(final)
        self._tell_last(SASL_FINAL, connection.expect(SASL_FINAL, final))     # the signature is the client's to check
        return connection.next_request()

    def _refuse(self, connection: UpstreamConnection, final: bytes, why: str) -> NoReturn:
        """Let the server do it, as it refuses a wrong password: it gets no proof of the client's. *why* is logged."""
        try:
            connection.request(mock.client_final(final))
        except ServerError as error:
            error.for_log = why
            raise
        raise wrong_password(self._credentials.user, why)


def split_initial(body: bytes) -> tuple[str, bytes]:
    """SASLInitialResponse: (mechanism, initial response)."""
    mechanism, found, rest = body.partition(b"\0")
    if not found or len(rest) < 4 or int.from_bytes(rest[:4], "big") != len(rest) - 4:
        raise ProtocolViolation("malformed SASLInitialResponse")
    return mechanism.decode(errors="replace"), rest[4:]


def _mechanisms(names: Iterable[bytes]) -> bytes:
    return b"".join(name + b"\0" for name in names) + b"\0"
