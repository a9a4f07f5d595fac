"""What a TLS context lets in and what it refuses, in both forms: the compiled one is no milder, and says the same."""

from __future__ import annotations

import datetime
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from pgsplit.config.model import TlsParams
from pgsplit.demo import certificates
from pgsplit.demo.certificates import Authority, KeyPair
from pgsplit.errors import ConnectionLost
from pgsplit.upstream.stream import ALPN, Stream
from pgsplit.upstream.tls_params import apply, trust
from tests import tls
from tests.needs import missing

pytestmark = pytest.mark.relay


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    with gevent.Timeout(20):
        yield


@pytest.fixture(params=tls.FORMS)
def form(request: pytest.FixtureRequest) -> str:
    tls.make(request.param, ssl.PROTOCOL_TLS_CLIENT)
    return str(request.param)


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path)


def server_of(form: str, pair: KeyPair, **params: Any) -> Any:
    context = tls.make(form, ssl.PROTOCOL_TLS_SERVER)
    apply(context, TlsParams(**params))
    context.load_cert_chain(pair.certificate, pair.key)
    context.set_alpn_protocols([ALPN])
    return context


def client_of(form: str, authority: Authority, *, names: bool = True, **params: Any) -> Any:
    context = tls.make(form, ssl.PROTOCOL_TLS_CLIENT)
    apply(context, TlsParams(**params))
    trust(context, str(authority.ca), None)
    context.check_hostname = names
    return context


def shake(client: Any, server: Any, hostname: str | None = "localhost") -> list[Any]:
    """Of the client's and of the server's side the stream, or why there is none."""
    def begin(stream: Stream, context: Any, **how: Any) -> Stream | str:
        try:
            stream.start_tls(context, **how)
            if how["server_side"]:
                stream.write(b"S\0\0\0\x04")
            else:
                stream.read_message()       # in TLS 1.3 a client learns of its refusal behind its handshake
            return stream
        except ConnectionLost as error:
            stream.close()
            return str(error)

    here, there = (Stream(sock, name) for sock, name in zip(socket.socketpair(), ("server", "client"), strict=True))
    both = [gevent.spawn(begin, here, client, server_side=False, server_hostname=hostname),
            gevent.spawn(begin, there, server, server_side=True)]
    gevent.joinall(both, raise_error=True)
    return [one.value for one in both]


@pytest.mark.parametrize("hostname", ["localhost", "127.0.0.1"])
def test_whom_the_ca_has_signed_and_who_is_called_so_is_let_in(form: str, authority: Authority, hostname: str):
    client, server = shake(client_of(form, authority), server_of(form, authority.issue("server")), hostname)
    assert client.verified and client.peer_certificate() and server.tls.ssl.version() == "TLSv1.3"


def test_a_certificate_of_another_ca_is_refused(form: str, authority: Authority, tmp_path):
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").issue("server")
    client, server = shake(client_of(form, authority), server_of(form, stranger))
    assert "TLS: unable to get local issuer certificate" in client or "TLS: certificate signature failure" in client
    assert "ALERT" in server


def test_a_certificate_of_another_name_is_refused(form: str, authority: Authority):
    pair = server_of(form, authority.issue("server"))
    assert shake(client_of(form, authority), pair, "db.example")[0].endswith(
        "TLS: Hostname mismatch, certificate is not valid for 'db.example'.")
    assert shake(client_of(form, authority), pair, "192.0.2.1")[0].endswith(
        "TLS: IP address mismatch, certificate is not valid for '192.0.2.1'.")
    assert isinstance(shake(client_of(form, authority, names=False), pair, "db.example")[0], Stream)


def test_a_name_to_check_has_to_be_given(form: str, authority: Authority):
    if form == "compiled":
        with pytest.raises(ValueError, match="check_hostname requires server_hostname"):
            shake(client_of(form, authority), server_of(form, authority.issue("server")), None)
    with pytest.raises(ValueError, match="Cannot set verify_mode to CERT_NONE"):
        client_of(form, authority).verify_mode = ssl.CERT_NONE


def test_a_certificate_that_has_run_out_is_refused(form: str, authority: Authority, monkeypatch):
    monkeypatch.setattr(certificates, "LIFETIME", -datetime.timedelta(minutes=1))
    pair = authority.issue("server")
    assert shake(client_of(form, authority), server_of(form, pair))[0].endswith("TLS: certificate has expired")


def test_a_revoked_certificate_is_refused(form: str, authority: Authority):
    pair = authority.issue("server")
    client = client_of(form, authority)
    trust(client, str(authority.ca), str(authority.crl(pair)))
    assert shake(client, server_of(form, pair))[0].endswith("TLS: certificate revoked")


@pytest.mark.parametrize(("ours", "theirs"), [({"minimum": "TLSv1.3"}, {"maximum": "TLSv1.2"}),
                                             ({"maximum": "TLSv1.2"}, {"minimum": "TLSv1.3"})])
def test_a_version_outside_the_bounds_is_refused(form: str, authority: Authority, ours: Any, theirs: Any):
    pair = authority.issue("server")
    client, server = shake(client_of("ssl module", authority, **theirs), server_of(form, pair, **ours))
    assert "PROTOCOL_VERSION" in client and "UNSUPPORTED_PROTOCOL" in server
    client, server = shake(client_of(form, authority, **theirs), server_of("ssl module", pair, **ours))
    assert "PROTOCOL_VERSION" in client and "UNSUPPORTED_PROTOCOL" in server


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_each_version_and_each_form_with_the_other(form: str, authority: Authority, version: str):
    pair = authority.issue("server")
    for other in tls.FORMS:
        params = {"minimum": version, "maximum": version}
        client, server = shake(client_of(other, authority, **params), server_of(form, pair, **params))
        assert client.tls.ssl.version() == server.tls.ssl.version() == version


def test_cipher_suites_and_curves_are_those_that_are_given(form: str, authority: Authority):
    pair = authority.issue("server")
    server = server_of(form, pair, maximum="TLSv1.2", cipher_suites=("ECDHE-ECDSA-AES256-GCM-SHA384",))
    refused = client_of("ssl module", authority, cipher_suites=("ECDHE-ECDSA-AES128-GCM-SHA256",), maximum="TLSv1.2")
    assert "NO_SHARED_CIPHER" in shake(refused, server)[1]
    assert isinstance(shake(client_of("ssl module", authority), server)[0], Stream)
    server = server_of(form, pair, ecdh_curves=("P-384",))
    assert isinstance(shake(client_of("ssl module", authority, ecdh_curves=("P-256",)), server)[0], str)
    assert isinstance(shake(client_of("ssl module", authority, ecdh_curves=("P-384",)), server)[0], Stream)
    with pytest.raises(ssl.SSLError, match="No cipher can be selected"):
        server.set_ciphers("NO-SUCH")
    with pytest.raises(ValueError, match="unknown elliptic curve"):
        server.set_ecdh_curve("no-such")


@pytest.mark.parametrize(("offered", "agreed"), [([ALPN], ALPN), (["h2", ALPN], ALPN), (["h2"], None), ([], None)])
def test_the_protocol_inside_tls(form: str, authority: Authority, offered: list[str], agreed: str | None):
    """Whoever began with TLS is refused where it is None (`handshake._direct_tls`)."""
    client = client_of("ssl module", authority)
    if offered:
        client.set_alpn_protocols(offered)
    for stream in shake(client, server_of(form, authority.issue("server"))):
        assert stream.tls.ssl.selected_alpn_protocol() == agreed


def test_clients_certificates(form: str, authority: Authority, tmp_path):
    """One of our CA is looked at, none is none, another's ends the handshake."""
    server = server_of(form, authority.issue("server"))
    server.verify_mode = ssl.CERT_OPTIONAL
    trust(server, str(authority.ca), None)
    known = client_of("ssl module", authority)
    known.load_cert_chain((pair := authority.issue_client("Zoë")).certificate, pair.key)
    stream = shake(known, server)[1]
    reference = ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())
    assert stream.peer_certificate() == reference
    assert stream.tls.ssl.getpeercert()["subject"] == ((("commonName", "Zoë"),),)
    assert shake(client_of("ssl module", authority), server)[1].peer_certificate() is None
    (tmp_path / "other").mkdir()
    stranger = client_of("ssl module", authority)
    stranger.load_cert_chain((pair := Authority(tmp_path / "other").issue_client("Zoë")).certificate, pair.key)
    assert "TLS: " in shake(stranger, server)[1]


def test_files_that_cannot_be_used(form: str, authority: Authority, tmp_path):
    context = tls.make(form, ssl.PROTOCOL_TLS_SERVER)
    one, other = authority.issue("server"), authority.issue_client("other")
    (tmp_path / "not.pem").write_text("nothing")
    with pytest.raises(FileNotFoundError):
        context.load_cert_chain("/nowhere.crt", one.key)
    with pytest.raises(FileNotFoundError):
        context.load_verify_locations("/nowhere.crt")
    with pytest.raises(ssl.SSLError):
        context.load_cert_chain(tmp_path / "not.pem", one.key)
    with pytest.raises(ssl.SSLError):
        context.load_verify_locations(tmp_path / "not.pem")
    with pytest.raises(ssl.SSLError) as caught:
        context.load_cert_chain(one.certificate, other.key)
    assert caught.value.reason == "KEY_VALUES_MISMATCH"


def test_what_is_no_tls_ends_the_handshake(form: str, authority: Authority):
    here, there = socket.socketpair()
    here.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ConnectionLost, match="TLS: HTTP_REQUEST"):
        Stream(there, "client").start_tls(server_of(form, authority.issue("server")), server_side=True)
    here.close()


def test_the_compiled_form_begins_with_the_ciphers_of_the_ssl_module(authority: Authority):
    """Seen by who gets along: each suite of the one alone is taken by the other."""
    pair = authority.issue("server")
    tls.make("compiled", ssl.PROTOCOL_TLS_SERVER)
    suites = [one["name"] for one in ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).get_ciphers()
              if "ECDSA" in one["name"]]
    if not suites:
        missing("a cipher suite of TLS 1.2 for ECDSA")
    for suite in suites:
        client = client_of("ssl module", authority, maximum="TLSv1.2", cipher_suites=(suite,))
        assert isinstance(shake(client, server_of("compiled", pair))[0], Stream), suite
    weak = client_of("ssl module", authority, maximum="TLSv1.2", cipher_suites=("ECDHE-ECDSA-AES128-CCM",))
    assert "NO_SHARED_CIPHER" in shake(weak, server_of("compiled", pair))[1]
