"""Patroni's word on who the primary is: GET /cluster of its REST API, asked of all members at once.

The leader there holds a lock that it loses when it cannot renew it, which no server says of itself
(https://patroni.readthedocs.io/en/latest/rest_api.html). A member that does not answer is no vote.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import gevent
from gevent import socket, ssl
from gevent.event import Event

from .. import log
from ..config.model import Topology

logger = log.get("pgsplit.patroni")

LARGEST: Final = 1 << 20           # bytes of an answer
UNASKED: Final = "is not known to be Patroni's leader yet"
NO_LEADER: Final = "Patroni has no leader"
_URL: Final = re.compile(r"(https?)://\[?(.+?)\]?:(\d+)")

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Leader:
    """As Patroni knows it: `postgresql.connect_address` of that member. Without one nobody is it."""

    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


NOBODY: Final = Leader()


def leader_in(body: bytes) -> Leader:
    """The leader in the answer to GET /cluster, or NOBODY. :raises ValueError: for what is no such answer."""
    try:
        members = json.loads(body)["members"]
        leaders = [member for member in members if member["role"] in ("leader", "master")]
        return Leader(str(leaders[0]["host"]).lower(), int(leaders[0]["port"])) if leaders else NOBODY
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise ValueError("the answer is not that of Patroni's /cluster") from None


class _Connection(http.client.HTTPConnection):
    """On gevent's sockets."""

    def __init__(self, host: str, port: int, context: Any) -> None:
        super().__init__(host, port)
        self._context = context

    def connect(self) -> None:
        self.sock = socket.create_connection((self.host, self.port))
        if self._context is not None:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


def tls_context(topology: Topology) -> Any:
    """For members with https. Without `ca` it is the system's CAs that vouch for them.

    :raises OSError: when a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if topology.ca is not None:
        context.load_verify_locations(topology.ca)
    else:
        context.load_default_certs()
    if topology.certificate is not None:
        context.load_cert_chain(topology.certificate, topology.key)
    return context


def ask(member: str, topology: Topology, context: Any) -> Leader:
    """Whom *member* has for the leader.

    :raises OSError: when it does not answer (HTTPException, too).
    :raises ValueError: for an answer that is none.
    """
    match = _URL.fullmatch(member)
    assert match is not None
    connection = _Connection(match[2], int(match[3]), context if match[1] == "https" else None)
    headers = {"Accept": "application/json", "Connection": "close"}
    if topology.username:
        basic = base64.b64encode(f"{topology.username}:{topology.password}".encode()).decode("ascii")
        headers["Authorization"] = f"Basic {basic}"
    try:
        connection.request("GET", "/cluster", headers=headers)
        response = connection.getresponse()
        body = response.read(LARGEST + 1)
        if response.status != 200:
            raise ValueError(f"answers {response.status}")
        if len(body) > LARGEST:
            raise ValueError(f"answers more than {LARGEST} bytes")
        return leader_in(body)
    finally:
        connection.close()


class Word:
    """Patroni's on one write cluster."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.leader: Leader | None = None          # the last word; None: there has been none
        self.asked = False
        self.silent = ""                           # why it is silent, in words
        self.addresses: set[Address] = set()       # of the leader

    def stop(self) -> None:
        """Ask no more."""

    def ask_now(self) -> None:
        """Something hints at another word."""

    def read_context_again(self) -> None:
        """The files may hold something else."""

    def why_not(self, names: set[Address]) -> str:
        """Why the server with these *names* (its address, and what the configuration calls it) is not the leader.

        Nothing where Patroni has not said a word, and cannot be asked: then the servers' own words count alone.
        """
        if not self.asked:
            return UNASKED
        if self.leader is None:
            return ""
        if self.leader == NOBODY:
            return "is not Patroni's leader: there is none now"
        if (self.leader.host, self.leader.port) in names or self.addresses & names:
            return ""
        return f"is not Patroni's leader, which is {self.leader}"

    @property
    def note(self) -> str:
        """What its operator should see to."""
        if not self.silent:
            return ""
        holds = "the servers' own words count alone" if self.leader is None else (
            f"its last word holds: {NO_LEADER if self.leader == NOBODY else f'{self.leader} is the leader'}")
        return f"no member of Patroni answers, and {holds} ({self.silent})"


class Patroni(Word):
    """The source of one write cluster. Asks every *interval* seconds, and when told to, for *timeout* at most.

    *resolve* gives the addresses of the leader's name; *changed* is called when there is another word, *asked_again*
    behind each round.
    """

    def __init__(self, cluster: str, topology: Topology, *, interval: Callable[[], float],
                 timeout: Callable[[], float], resolve: Callable[[str, int], list[Address]],
                 changed: Callable[[], None], asked_again: Callable[[], None] = lambda: None) -> None:
        super().__init__(topology)
        self._cluster = cluster
        self._interval, self._timeout = interval, timeout
        self._resolve, self._changed, self._asked_again = resolve, changed, asked_again
        self._context: Any = None
        self._now = Event()
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        self._greenlet.kill()

    def ask_now(self) -> None:
        self._now.set()

    def read_context_again(self) -> None:
        self._context = None

    # --- asking -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._now.clear()
            try:
                self._round()
            except Exception:
                logger.exception("cluster %s: asking Patroni failed", self._cluster)
            self._asked_again()
            self._now.wait(self._interval())

    def _round(self) -> None:
        """One word, by whoever is the first to have one."""
        errors: list[str] = []
        greenlets = [gevent.spawn(self._ask, member) for member in self.topology.patroni]
        word = None
        try:
            for done in gevent.iwait(greenlets, timeout=self._timeout()):
                if isinstance(done.value, Leader):
                    word = done.value
                    break
                errors.append(str(done.value))
        finally:
            gevent.killall(greenlets)
        first, self.asked = not self.asked, True
        if word is None:
            missing = len(greenlets) - len(errors)
            self._is_silent("; ".join([*errors, *([f"{missing} did not answer in time"] if missing else [])]))
        else:
            if self.silent:
                logger.info("cluster %s: Patroni answers again", self._cluster)
            self.silent = ""
            if word != self.leader:
                self._take(word)
                return
        if first:
            self._changed()

    def _take(self, word: Leader) -> None:
        logger.info("cluster %s: %s", self._cluster,
                    NO_LEADER if word == NOBODY else f"Patroni's leader is {word}")
        addresses: set[Address] = set()
        if word != NOBODY:
            try:
                addresses = set(self._resolve(word.host, word.port))
            except OSError as error:
                logger.warning("cluster %s: Patroni's leader %s does not resolve: %s", self._cluster, word, error)
        self.leader, self.addresses = word, addresses
        self._changed()

    def _is_silent(self, why: str) -> None:
        said, self.silent = self.silent, why
        if not said:
            logger.warning("cluster %s: %s", self._cluster, self.note)

    def _ask(self, member: str) -> Leader | str:
        try:
            if self._context is None and member.startswith("https:"):
                self._context = tls_context(self.topology)
            return ask(member, self.topology, self._context)
        except (OSError, ValueError, http.client.HTTPException) as error:
            return f"{member}: {getattr(error, 'strerror', None) or str(error) or type(error).__name__}"
