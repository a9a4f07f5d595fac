"""Answers of two servers, made comparable: object identifiers that a run gives out are numbered as they appear."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from tests.differential.client import Message

FIRST_USER_OID = 16384      # FirstNormalObjectId, PostgreSQL's access/transam.h
ASYNCHRONOUS = b"A"           # a notification comes when it comes


class Normaliser:
    """Of one session."""

    def __init__(self) -> None:
        self._oids: dict[int, int] = {}

    def __call__(self, messages: Iterable[Message]) -> list[Message]:
        with_oids = {b"T": self._row_description, b"t": self._parameters}
        return [(kind, with_oids[kind](body) if kind in with_oids else body)
                for kind, body in messages if kind != ASYNCHRONOUS]

    def _oid(self, oid: int) -> int:
        return oid if oid < FIRST_USER_OID else FIRST_USER_OID + self._oids.setdefault(oid, len(self._oids))

    def _row_description(self, body: bytes) -> bytes:
        found, position = body[:2], 2
        for _ in range(int.from_bytes(body[:2], "big")):
            end = body.index(b"\0", position) + 1
            table, column, type_, size, modifier, format_ = struct.unpack_from(">IhIhih", body, end)
            found += body[position:end] + struct.pack(">IhIhih", self._oid(table), column, self._oid(type_), size,
                                                      modifier, format_)
            position = end + 18
        return found

    def _parameters(self, body: bytes) -> bytes:
        [count] = struct.unpack_from(">H", body)
        oids = struct.unpack_from(f">{count}I", body, 2)
        return struct.pack(f">H{count}I", count, *map(self._oid, oids))


def shown(messages: Sequence[Message], limit: int = 30) -> str:
    lines = [f"    {kind.decode() or '-'} {body[:300]!r}" for kind, body in messages]
    return "\n".join(lines[:limit] + ([f"    … {len(lines) - limit} more"] if len(lines) > limit else []))
