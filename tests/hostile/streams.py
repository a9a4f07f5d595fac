"""Streams of bytes gone wrong: good conversations, mutated by a seeded generator."""

from __future__ import annotations

import random

from pgsplit.wire import build
from pgsplit.wire.build import message
from pgsplit.wire.startup import CANCEL_REQUEST, GSSENC_REQUEST, SSL_REQUEST

STARTUP = build.startup({"user": "trust_user", "database": "postgres", "application_name": "hostile"})
BATCH = build.parse("", "select $1::int") + build.bind("", "", [b"1"]) + build.describe() + build.execute() + build.SYNC

CLIENT = (
    (STARTUP, build.query("select 1"), build.TERMINATE),
    (STARTUP, BATCH, BATCH, build.TERMINATE),
    (STARTUP, build.query("begin"), build.query("select 1"), build.query("rollback"), build.TERMINATE),
    (STARTUP, build.query("create temp table h (a int)"), build.query("copy h from stdin"), message(b"d", b"1\n"),
     message(b"c"), build.TERMINATE),
    (STARTUP, build.parse("s", "select 1"), build.FLUSH, build.bind("", "s"), build.execute("", 1), build.SYNC,
     build.close(b"S", "s"), build.SYNC, build.TERMINATE),
    (STARTUP, build.query(""), build.query("select 1; select 2"), message(b"F", b"\0\0\0\0\0\0\0\0\0\0"),
     message(b"f", b"no\0"), build.TERMINATE),
    (build.untyped(SSL_REQUEST), STARTUP, build.query("select 1")),
    (build.untyped(GSSENC_REQUEST), STARTUP, build.query("select 1")),
    (build.untyped(CANCEL_REQUEST, b"\0\0\0\1\0\0\0\2"),),
)

AUTHENTICATED = (build.authentication(0), build.parameter_status("server_version", "15.1"),
                 build.parameter_status("client_encoding", "UTF8"),
                 build.parameter_status("standard_conforming_strings", "on"), build.backend_key_data(7, b"\1\2\3\4"),
                 build.ready_for_query(ord("I")))
ROW = message(b"T", b"\0\1a\0" + b"\0" * 18) + message(b"D", b"\0\1\0\0\0\1" + b"1")
SERVER = (
    (*AUTHENTICATED, ROW, message(b"C", b"SELECT 1\0"), build.ready_for_query(ord("I"))),
    (*AUTHENTICATED, build.error_response("ERROR", "42601", "syntax error"), build.ready_for_query(ord("I"))),
    (*AUTHENTICATED, message(b"G", b"\0\0\0"), message(b"C", b"COPY 0\0"), build.ready_for_query(ord("I"))),
    (*AUTHENTICATED, build.notice_response("NOTICE", "00000", "n"), message(b"A", b"\0\0\0\1c\0p\0"), message(b"I"),
     build.ready_for_query(ord("T"))),
    (build.authentication(5, b"salt"), *AUTHENTICATED),
    (build.authentication(10, b"SCRAM-SHA-256\0\0"), build.authentication(11, b"r=x,s=eA==,i=1"), *AUTHENTICATED),
    (build.error_response("FATAL", "53300", "sorry, too many clients already"),),
    (message(b"v", b"\0\0\0\0\0\0\0\0"), *AUTHENTICATED),
)

LENGTHS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\4", b"\0\1\0\0")


def mutate(dice: random.Random, messages: tuple[bytes, ...]) -> bytes:
    """Messages dropped, repeated or in another order; bits flipped, lengths changed, bytes put in or cut off."""
    chosen = list(messages)
    for _ in range(dice.randint(0, 2)):
        if len(chosen) > 1:
            at = dice.randrange(len(chosen))
            if dice.random() < 0.5:
                chosen.insert(at, dice.choice(chosen))
            else:
                del chosen[at]
    data = bytearray(b"".join(chosen))
    for _ in range(dice.randint(0, 4)):
        if not data:
            break
        at = dice.randrange(len(data))
        how = dice.randrange(5)
        if how == 0:
            data[at] ^= 1 << dice.randrange(8)
        elif how == 1:
            data[at:at] = dice.randbytes(dice.randint(1, 9))
        elif how == 2:
            del data[at:at + dice.randint(1, 9)]
        elif how == 3:
            data[at:at + 4] = dice.choice(LENGTHS)
        else:
            del data[at:]
    return bytes(data)
