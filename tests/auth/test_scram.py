"""SCRAM against the RFC's example, against another implementation, and against nonsense."""

from __future__ import annotations

import base64
import hashlib

import pytest
import scramp
from hypothesis import given
from hypothesis import strategies as st

from pgsplit.auth import scram
from pgsplit.auth.scram import (
    Keys,
    ScramClient,
    ScramError,
    ScramObserver,
    ScramServer,
    StaleVerifier,
    keys_of,
    normalise,
    salted_password,
    verifier_of,
)
from pgsplit.auth.secret import Verifier, parse

SALT = b"0123456789abcdef"
BINDING = hashlib.sha256(b"a certificate").digest()

# RFC 7677 section 3: user "user", password "pencil"
RFC_SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
RFC_CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
RFC_SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
RFC_CLIENT_FINAL = (b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                    b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")


def keys(password: str = "secret", salt: bytes = SALT, iterations: int = 64) -> Keys:
    return keys_of(salted_password(normalise(password), salt, iterations), salt, iterations)


def verifier(password: str = "secret", salt: bytes = SALT, iterations: int = 64) -> Verifier:
    return verifier_of(keys(password, salt, iterations))


def client(password: str = "secret", binding: bytes | None = None) -> ScramClient:
    return ScramClient(salted_password, secret=parse(password), binding=binding)


def nonce_of(one: ScramClient) -> bytes:
    return one.first().partition(b",r=")[2]


def converse(one: ScramClient, server: ScramServer) -> Keys:
    """A whole exchange between the two of ours."""
    challenge = server.first(one.mechanism, one.first())
    last, recovered = server.final(one.final(challenge))
    one.verify(last)
    return recovered


# --- the RFC, and another implementation -------------------------------------------------------------------------

def test_the_keys_of_the_rfc_s_example_are_recovered_from_what_went_over_the_wire():
    expected = keys("pencil", RFC_SALT, 4096)
    observer = ScramObserver(verifier_of(expected))
    observer.client_first(RFC_CLIENT_FIRST)
    observer.server_first(RFC_SERVER_FIRST)
    assert observer.client_final(RFC_CLIENT_FINAL) == expected
    assert observer.client_final(RFC_CLIENT_FINAL.replace(b"p=dHzb", b"p=dHzc")) is None


@pytest.mark.parametrize("plus", [False, True])
def test_our_client_satisfies_another_server(plus: bool):
    binding = BINDING if plus else None
    mechanism = scramp.ScramMechanism("SCRAM-SHA-256-PLUS" if plus else "SCRAM-SHA-256")
    stored = mechanism.make_auth_info("secret", iteration_count=4096, salt=SALT)
    server = mechanism.make_server(lambda user: stored,
                                   channel_binding=("tls-server-end-point", BINDING) if plus else None)
    ours = client(binding=binding)
    assert ours.mechanism == mechanism.name
    server.set_client_first(ours.first().decode())
    server.set_client_final(ours.final(server.get_server_first().encode()).decode())
    ours.verify(server.get_server_final().encode())


@pytest.mark.parametrize("plus", [False, True])
def test_another_client_satisfies_our_server(plus: bool):
    mechanism = "SCRAM-SHA-256-PLUS" if plus else "SCRAM-SHA-256"
    theirs = scramp.ScramClient([mechanism], "user", "secret",
                                channel_binding=("tls-server-end-point", BINDING) if plus else None)
    server = ScramServer(verifier(iterations=4096), BINDING if plus else None)
    assert mechanism in server.mechanisms
    theirs.set_server_first(server.first(mechanism, theirs.get_client_first().encode()).decode())
    last, recovered = server.final(theirs.get_client_final().encode())
    theirs.set_server_final(last.decode())
    assert recovered == keys(iterations=4096)


# --- verifiers -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("binding", [None, BINDING])
def test_keys_recovered_in_one_exchange_serve_in_the_next(binding: bytes | None):
    recovered = converse(client(binding=binding), ScramServer(verifier(), binding))
    assert recovered == keys()
    again = ScramClient(salted_password, keys=recovered, binding=binding)
    assert converse(again, ScramServer(verifier(), binding)) == recovered


def test_recovered_keys_do_not_serve_where_the_salt_is_another():
    reset = verifier(salt=b"another salt of it")
    ours = ScramClient(salted_password, keys=keys())
    with pytest.raises(StaleVerifier, match="older than the password on the server"):
        ours.final(ScramServer(reset, None).first(ours.mechanism, ours.first()))
    observer = ScramObserver(verifier())
    with pytest.raises(StaleVerifier):
        observer.server_first(ScramServer(reset, None).first(ours.mechanism, ours.first()))


def test_without_a_password_there_is_no_answer():
    for secret in (None, parse("md5" + "0" * 32)):
        ours = ScramClient(salted_password, secret=secret)
        with pytest.raises(ScramError, match="no password"):
            ours.final(ScramServer(verifier(), None).first(ours.mechanism, ours.first()))


# --- refusals ------------------------------------------------------------------------------------------------------

def test_a_wrong_password_is_28P01_and_recovers_nothing():
    with pytest.raises(ScramError) as refused:
        converse(client("guess"), ScramServer(verifier(), None))
    assert refused.value.sqlstate == "28P01"


def test_a_server_that_does_not_know_the_password_is_found_out():
    ours = client()
    ours.final(ScramServer(verifier(), None).first(ours.mechanism, ours.first()))
    with pytest.raises(ScramError, match="does not know this password"):
        ours.verify(b"v=" + base64.b64encode(b"0" * 32))
    with pytest.raises(ScramError, match="does not know this password"):
        ours.verify(b"x=")
    with pytest.raises(ScramError, match="other-error"):
        ours.verify(b"e=other-error")


def test_a_nonce_that_does_not_continue_ours_is_refused():
    salt = base64.b64encode(SALT)
    ours = client()
    for nonce in (b"else", nonce_of(ours)):
        with pytest.raises(ScramError, match="nonce"):
            ours.final(b"r=%s,s=%s,i=64" % (nonce, salt))


def test_another_certificate_s_binding_is_refused():
    with pytest.raises(ScramError, match="channel binding check failed"):
        converse(client(binding=BINDING), ScramServer(verifier(), bytes(32)))


BARE = b"n=,r=abcdef"


@pytest.mark.parametrize("mechanism, binding, first, why", [
    ("SCRAM-SHA-256", BINDING, b"y,," + BARE, "the client thinks that the server does not support"),
    ("SCRAM-SHA-256", BINDING, b"p=tls-server-end-point,," + BARE, "includes channel binding data"),
    ("SCRAM-SHA-256-PLUS", BINDING, b"n,," + BARE, "does not bind to tls-server-end-point"),
    ("SCRAM-SHA-256-PLUS", BINDING, b"p=tls-unique,," + BARE, "does not bind to tls-server-end-point"),
    ("SCRAM-SHA-256-PLUS", None, b"p=tls-server-end-point,," + BARE, "invalid SASL authentication mechanism"),
    ("SCRAM-SHA-1", BINDING, b"n,," + BARE, "invalid SASL authentication mechanism"),
    ("SCRAM-SHA-256", None, b"n,a=admin," + BARE, "authorization identity"),
    ("SCRAM-SHA-256", None, b"q,," + BARE, "gs2 header"),
    ("SCRAM-SHA-256", None, b"n,,m=ext," + BARE, "malformed"),
    ("SCRAM-SHA-256", None, b"n,,n=,r=", "malformed"),
    ("SCRAM-SHA-256", None, b"n,,n=,r=a,r=b", "malformed"),
])
def test_the_gs2_flags_and_mechanisms_that_contradict_each_other_are_refused(mechanism, binding, first, why):
    with pytest.raises(ScramError, match=why):
        ScramServer(verifier(), binding).first(mechanism, first)


def test_a_client_that_thinks_nobody_binds_is_right_where_nobody_does():
    assert ScramServer(verifier(), None).first("SCRAM-SHA-256", b"y,," + BARE).startswith(b"r=abcdef")


@pytest.mark.parametrize("challenge, why", [
    (b"r=%s,s=!!!,i=64", "base64"),
    (b"r=%s,s=,i=64", "server-first"),
    (b"r=%s,s=AAAA,i=0", "server-first"),
    (b"r=%s,s=AAAA,i=-1", "server-first"),
    (b"r=%s,s=AAAA,i=" + b"9" * 5000, "server-first"),
    (b"r=%s,s=AAAA,i=2000000", "2000000 SCRAM iterations"),
    (b"r=%s,s=AAAA", "server-first"),
    (b"m=1,r=%s,r=,s=AAAA,i=1", "malformed"),
])
def test_a_challenge_that_makes_no_sense_is_refused(challenge: bytes, why: str):
    ours = client()
    nonce = nonce_of(ours) + b"more"
    with pytest.raises(ScramError, match=why):
        ours.final(challenge.replace(b"%s", nonce))


near_scram = st.one_of(
    st.binary(max_size=60),
    st.lists(st.sampled_from([b"n", b"y", b"p=tls-server-end-point", b"", b"n=", b"r=abc", b"r=", b"c=biws", b"p=AAAA",
                              b"s=AAAA", b"i=1", b"i=x", b"v=AAAA", b"e=no", b"m=1", b"\xff", b"=", b"a=b=c"]),
             max_size=8).map(b",".join))


@given(near_scram, near_scram, near_scram)
def test_no_message_does_worse_than_a_scram_error(first: bytes, second: bytes, third: bytes):
    def attempt(step, *arguments):
        try:
            step(*arguments)
        except ScramError as error:
            assert error.severity == "FATAL"
            assert error.sqlstate in ("08P01", "28000", "28P01", "0A000")

    server, ours, observer = ScramServer(verifier(iterations=1), BINDING), client(), ScramObserver(verifier())
    attempt(server.first, "SCRAM-SHA-256", first)
    attempt(server.final, second)
    attempt(ours.final, first)
    attempt(ours.verify, second)
    attempt(observer.client_first, first)
    attempt(observer.server_first, second)
    attempt(observer.client_final, third)


# --- SASLprep --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("password, prepared", [
    ("plain", b"plain"),
    ("I\u00adX", b"IX"),                       # RFC 4013's examples
    ("\u00aa", b"a"),
    ("\u2168", b"IX"),
    ("a\u00a0b", b"a b"),
    ("e\u0301", "é".encode()),
    ("\u0627\u0031", "\u0627\u0031".encode()),   # bidirectional check fails: the raw bytes, as PostgreSQL does
    ("\u0007é", "\u0007é".encode()),             # prohibited
    ("\u00ad", "\u00ad".encode()),               # nothing would remain
    ("\udcff\udcfe", b"\xff\xfe"),               # not UTF-8
])
def test_saslprep_and_its_fallback_to_raw_bytes(password: str, prepared: bytes):
    assert normalise(password) == prepared


def test_the_names_offered():
    assert ScramServer(verifier(), BINDING).mechanisms == [scram.SCRAM_PLUS, scram.SCRAM]
    assert ScramServer(verifier(), None).mechanisms == [scram.SCRAM]
