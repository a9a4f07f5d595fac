"""The SQL console: `psql -d pgsplit` on the proxy's port, as PgBouncer has one. Simple protocol only."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from ..errors import PgSplitError
from ..upstream.stream import Stream
from ..wire import build
from ..wire.messages import IDLE
from .console_tables import SHOW, Known, Row

LIMIT: Final = 65536            # bytes of a message of the client's
INT8, TEXT = 20, 25             # types, PostgreSQL manual 53.64 (pg_type)
HELP: Final = f"SHOW {'|'.join(name.upper() for name in sorted(SHOW))}; RELOAD; FORGET TERM cluster"
_COMMAND: Final = re.compile(r"""\s*(?:show\s+(\w+)|(reload)|forget\s+term\s+("?)([^\s";]+)\3)\s*;?\s*""",
                             re.IGNORECASE)


class Console:
    """A client's, who has logged in. *reload* and *forget_term*: what RELOAD and FORGET TERM do; None for who may only
    look.
    """

    def __init__(self, stream: Stream, known: Known, reload: Callable[[], None] | None,
                 forget_term: Callable[[str], None] | None) -> None:
        self._stream = stream
        self._known = known
        self._reload = reload
        self._forget = forget_term

    def run(self) -> None:
        """Until the client goes. :raises ConnectionLost: when it does so without saying so."""
        self._stream.write(build.ready_for_query(IDLE))
        skipping = False
        while True:
            kind, body = self._stream.read_message(LIMIT)
            if kind == ord("X"):
                return
            if kind == ord("Q"):
                skipping = False
                self._stream.write(self._answer(body.rstrip(b"\0").decode("utf-8", "replace"))
                                   + build.ready_for_query(IDLE))
            elif kind == ord("S"):
                skipping = False
                self._stream.write(build.ready_for_query(IDLE))
            elif not skipping:
                skipping = True
                self._stream.write(build.error_response("ERROR", "0A000", "the console has the simple protocol only"))

    def _answer(self, sql: str) -> bytes:
        if not sql.strip(" \t\r\n;"):
            return build.message(b"I")
        match = _COMMAND.fullmatch(sql)
        name = match[1].lower() if match and match[1] else ""
        if match and match[2]:
            return self._do_reload()
        if match and match[4]:
            return self._forget_term(match[4])
        if name == "help":
            return build.notice_response("NOTICE", "00000", "Console usage", detail=HELP) + _complete("SHOW")
        if name not in SHOW:
            return build.error_response("ERROR", "42601", f"the console does not know {sql.strip()[:100]!r}", hint=HELP)
        return _table(SHOW[name](self._known)) + _complete("SHOW")

    def _do_reload(self) -> bytes:
        if self._reload is None:
            return build.error_response("ERROR", "42501", "RELOAD is for admin_users")
        self._reload()
        return _complete("RELOAD")

    def _forget_term(self, cluster: str) -> bytes:
        if self._forget is None:
            return build.error_response("ERROR", "42501", "FORGET TERM is for admin_users")
        try:
            self._forget(cluster)
        except PgSplitError as error:
            return build.error_response("ERROR", "42704", str(error))
        return _complete("FORGET TERM")


def _table(rows: list[Row]) -> bytes:
    names = list(rows[0]) if rows else []
    kinds = [INT8 if isinstance(rows[0][name], int) else TEXT for name in names]
    parts = [build.message(b"T", len(names).to_bytes(2, "big") + b"".join(
        build.cstring(name) + bytes(6) + kind.to_bytes(4, "big") + b"\xff\xff\xff\xff\xff\xff\0\0"
        for name, kind in zip(names, kinds, strict=True)))]
    for row in rows:
        cells = [str(row[name]).encode("utf-8", "replace") for name in names]
        parts.append(build.message(b"D", len(cells).to_bytes(2, "big") + b"".join(
            len(cell).to_bytes(4, "big") + cell for cell in cells)))
    return b"".join(parts)


def _complete(tag: str) -> bytes:
    return build.message(b"C", build.cstring(tag))


