"""A pass over every route: who is not logged in, in the wrong role, without CSRF token, by the wrong method or Host."""

from __future__ import annotations

import json

import pytest
from werkzeug.routing import Rule

from tests.admin.conftest import NASTY, TOKEN, Browser, host, session

OPEN = {"/healthz", "/readyz", "/login"}
ARGUMENTS = {"listener": "postgres", "identifier": "1-7", "action": "cancel", "cluster": "primary",
             "host": "10.0.0.1:5432", "order": "drain", "filename": "app.css"}
LOOKS = {"/routing/try", "/api/v1/explain", "/logout"}      # posted, and nothing is changed


def routes(app, method):
    for rule in app.url_map.iter_rules():
        if method in rule.methods and rule.endpoint != "static":
            yield path_of(rule)


def path_of(rule: Rule) -> str:
    _, path = rule.build({name: ARGUMENTS[name] for name in rule.arguments}) or ("", "")
    assert path, rule
    return path


def test_there_is_something_to_pass_over(make):
    app = make()
    assert len(list(routes(app, "GET"))) > 30 and len(list(routes(app, "POST"))) > 12


def test_nobody_sees_anything_without_logging_in(make, proxy):
    app = make()
    browser = Browser(app, name="")
    for path in routes(app, "GET"):
        answer = browser.get(path)
        if path in OPEN:
            assert answer.status_code == 200, path
        elif path.startswith("/api/") or path in ("/stats", "/metrics"):
            assert answer.status_code == 401, path
        else:
            assert (answer.status_code, answer.location.startswith("/login")) == (302, True), path
    for path in routes(app, "POST"):
        if path != "/login":
            assert browser.post(path).status_code in (302, 401), path
    assert proxy.said == []


def test_nothing_is_changed_without_the_csrf_token(make, proxy):
    app = make()
    browser = Browser(app)
    proxy.said.clear()
    for path in routes(app, "POST"):
        assert browser.post(path, csrf=False).status_code == 400, path
    assert proxy.said == []


def test_a_viewer_changes_nothing(make, proxy):
    app = make()
    viewer = Browser(app, "eve")
    proxy.said.clear()
    for path in routes(app, "POST"):
        if path not in LOOKS | OPEN:
            assert viewer.post(path).status_code == 403, path
    assert proxy.said == []
    assert viewer.get("/").status_code == 200


def test_read_only_holds_for_admins_too(make, proxy):
    app = make(read_only=True)
    browser = Browser(app)
    proxy.said.clear()
    for path in routes(app, "POST"):
        if path not in LOOKS | OPEN:
            assert browser.post(path).status_code == 403, path
    assert proxy.said == []


def test_looking_changes_nothing(make, proxy):
    app = make()
    browser = Browser(app)
    proxy.said.clear()
    for path in routes(app, "GET"):
        assert browser.get(path).status_code == 200, path
        assert browser.client.open(path, base_url=browser.base, method="HEAD").status_code == 200, path
    assert proxy.said == []


def test_other_methods_are_refused(make):
    app = make()
    browser = Browser(app)
    for path in {*routes(app, "GET"), *routes(app, "POST")}:
        for method in ("PUT", "DELETE", "PATCH"):
            assert browser.client.open(path, base_url=browser.base, method=method).status_code in (400, 405), path


def test_only_hosts_that_are_ours(make):
    app = make(loopback=False)
    for name, code in [("127.0.0.1", 200), ("[::1]:8432", 200), ("10.1.2.3:8432", 200), ("pgsplit.example.com", 200),
                       ("PGSPLIT.example.com:444", 200), ("localhost", 421), ("evil.example.com", 421),
                       ("pgsplit.example.com.evil.example", 421)]:
        assert app.test_client().get("/healthz", base_url=f"http://{name}").status_code == code, name
    assert make().test_client().get("/healthz", base_url="http://localhost:8432").status_code == 200


def test_another_site_cannot_post(make, proxy):
    browser = Browser(make())
    proxy.said.clear()
    path = "/clusters/check"
    assert browser.post(path, headers={"Origin": "http://evil.example"}).status_code == 403
    assert browser.post(path, headers={"Origin": "null"}).status_code == 403
    assert browser.post(path, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert proxy.said == []
    assert browser.post(path, headers={"Origin": "http://127.0.0.1"}).status_code == 302


def test_headers_of_every_answer(make):
    browser = Browser(make())
    for path in ("/", "/healthz", "/nowhere", "/static/app.css", "/api/v1/overview"):
        answer = browser.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy and "unsafe" not in policy
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_cookie_is_no_script_s_and_no_other_site_s(make):
    app = make(tls=True)
    answer = app.test_client().get("/login", base_url="https://127.0.0.1")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Secure" in cookie


def test_a_wrong_password_again_and_again(make, proxy):
    app = make()
    browser = Browser(app, name="")
    for _ in range(5):
        assert browser.post("/login", {"name": "admin", "password": "wrong"}).status_code == 403
    assert browser.post("/login", {"name": "admin", "password": "right"}).status_code == 429
    assert [args["result"] for what, args in proxy.said if what == "audit_add"] == ["refused"] * 5


def test_nobody_and_a_very_long_password(make):
    nobody = Browser(make(), name="")
    assert nobody.post("/login", {"name": "nobody", "password": "right"}).status_code == 403
    assert nobody.post("/login", {"name": "admin", "password": "x" * 5000}).status_code == 403


def test_another_password_ends_the_log_in(make):
    browser = Browser(make())
    key = browser.client
    app = make(secrets={"admin": "another", "eve": "another"})
    other = app.test_client()
    other._cookies = key._cookies
    assert other.get("/", base_url=browser.base).status_code == 302


def test_after_logging_in_one_is_not_sent_elsewhere(make):
    browser = Browser(make(), name="")
    for target in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"):
        answer = browser.post("/login", {"name": "admin", "password": "right", "next": target})
        assert answer.location == "/", target
        browser = Browser(make(), name="")
    assert browser.post("/login", {"name": "admin", "password": "right", "next": "/log"}).location == "/log"


def test_a_token_reads_and_does_not_change(make, proxy):
    app = make()
    ask = app.test_client()
    good, bad = {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": "Bearer guess"}
    base = "http://127.0.0.1"
    assert ask.get("/metrics", base_url=base, headers=good).status_code == 200
    assert ask.get("/metrics", base_url=base, headers=bad).status_code == 401
    assert ask.get("/api/v1/sessions", base_url=base, headers=good).json["sessions"][0]["id"] == "1-7"
    assert ask.post("/api/v1/reload", base_url=base, headers=good).status_code == 403
    assert proxy.said == []


def test_what_clients_send_is_text_on_every_page(make, proxy):
    proxy.sessions[:] = [session(user=NASTY, application_name=NASTY, digest=NASTY, database=NASTY, client=NASTY,
                                 reason=NASTY, pins={NASTY: NASTY})]
    proxy.hosts[:] = [host(why_not=NASTY, healthy=False)]
    app = make()
    browser = Browser(app)
    for path in routes(app, "GET"):
        answer = browser.get(path)
        if answer.mimetype == "text/html":
            assert "<script>alert" not in answer.text, path
        assert "X-Evil" not in answer.headers, path
    answer = browser.post("/routing/try", {"sql": f"select '{NASTY}'"})
    assert answer.status_code == 200 and "<script>alert" not in answer.text


@pytest.mark.parametrize(("path", "body", "code"), [
    ("/api/v1/explain", b"{", 400), ("/api/v1/explain", b"[]", 400), ("/api/v1/explain", b'{"sql": 1}', 400),
    ("/api/v1/users", b'{"changes": 1}', 400), ("/api/v1/users", b'{"changes": [1], "listener": "postgres"}', 400),
    ("/api/v1/listeners/postgres/reads", b'{"to": "nowhere"}', 400),
    ("/api/v1/explain", b"x" * (5 << 20), 413),
])
def test_malformed_and_oversized_bodies(make, path, body, code):
    browser = Browser(make())
    answer = browser.client.post(path, data=body, base_url=browser.base, content_type="application/json",
                                 headers={"X-CSRFToken": browser.token()})
    assert answer.status_code == code
    assert "error" in json.loads(answer.text)


def test_behind_a_proxy(make):
    app = make(prefix="/pgsplit", trusted_proxies=("10.0.0.0/8",))
    forwarded = {"X-Forwarded-Host": "pgsplit.example.com", "X-Forwarded-For": "192.0.2.7",
                 "X-Forwarded-Proto": "https"}
    ask = app.test_client()
    for path in ("/pgsplit/", "/"):         # whether the proxy takes the prefix off or not
        answer = ask.get(path, headers=forwarded, environ_base={"REMOTE_ADDR": "10.0.0.1"})
        assert (answer.status_code, answer.location) == (302, "/pgsplit/login?next=/"), path
    untrusted = ask.get("/pgsplit/", headers=forwarded, base_url="http://evil.example",
                        environ_base={"REMOTE_ADDR": "192.0.2.1"})
    assert untrusted.status_code == 421
