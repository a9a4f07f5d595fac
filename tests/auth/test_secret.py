"""The entries of a user list: which kind each is, and that none shows itself."""

from __future__ import annotations

import pytest

from pgsplit.auth.scram import Keys
from pgsplit.auth.secret import Kind, md5_response, parse
from pgsplit.upstream.login import Credentials

VERIFIER = ("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
            "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=")


@pytest.mark.parametrize("text, kind", [
    ("app-secret", Kind.CLEAR),
    ("", Kind.CLEAR),
    ("0123", Kind.CLEAR),
    ("md5" + "0" * 32, Kind.MD5),
    ("md5" + "0" * 31, Kind.CLEAR),
    ("md5" + "g" * 32, Kind.CLEAR),
    (VERIFIER, Kind.SCRAM),
    (VERIFIER + "\n", Kind.CLEAR),
    (VERIFIER.replace("4096", "0"), Kind.CLEAR),
    (VERIFIER.replace("W22Z", "W!2Z"), Kind.CLEAR),
    (VERIFIER.replace("WG5d8oPm", ""), Kind.CLEAR),
    ("SCRAM-SHA-256$", Kind.CLEAR),
])
def test_the_full_shape_tells_the_kind(text: str, kind: Kind):
    assert parse(text).kind is kind


def test_nothing_shows_itself():
    secret = parse(VERIFIER)
    shown = [secret, secret.verifier, parse("app-secret"), Keys(b"salt", 4096, b"client", b"server"),
             Credentials("app", secret, Keys(b"salt", 1, b"client", b"server"), parse("app-secret"))]
    for thing in shown:
        for text in (repr(thing), str(thing), f"{thing}"):
            assert not any(word in text for word in ("W22Z", "WG5d", "app-secret", "client", "server", "salt"))


def test_md5_from_a_password_and_from_its_hash_is_the_same():
    # printf 'app-secretapp' | md5sum
    stored = parse("md5" + "5afb2fb5ee1832419a8c0fa45bc3255b")
    clear = parse("app-secret")
    assert md5_response(clear, "app", b"\1\2\3\4").startswith("md5")
    assert md5_response(clear, "app", b"\1\2\3\4") != md5_response(clear, "app", b"\1\2\3\5")
    assert md5_response(stored, "app", b"\1\2\3\4") == md5_response(clear, "app", b"\1\2\3\4")
