"""The page in a real browser: it is alive, says what happens, and asks nobody but its own host."""

from __future__ import annotations

import shutil
import subprocess
import sys

import psycopg
import pytest
from playwright.sync_api import expect, sync_playwright

from pgsplit.demo import ports
from tests.needs import missing
from tests.waiting import eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGES = ("/", "/sessions", "/routing", "/clusters", "/topology", "/users", "/configuration", "/log")
PATIENCE = 60_000       # milliseconds


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        missing("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM,
                                             args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def proxy(pgsplit_server):
    return pgsplit_server(admin=f"{ports.HOST}:{ports.choose()}", consistency="session", pgsplit={"workers": 2})


@pytest.fixture
def page(chromium, proxy):
    """Logged in; at the end nothing was said on the console, and nobody else was asked."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, base_url=f"http://{proxy.admin}")
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url)
            if not request.url.startswith((f"http://{proxy.admin}/", "data:")) else None)
    page.goto("/")
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill(proxy.admin_password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("Everything works.")).to_be_visible()
    yield page
    context.close()
    assert complaints == []


def connect(proxy, password="scram-secret", user="scram_user"):
    return psycopg.connect(host="127.0.0.1", port=proxy.port, user=user, password=password, dbname="postgres",
                           autocommit=True)


def test_sessions_appear_and_vanish_while_pgbench_runs(cluster, proxy, page):
    page.goto("/sessions?filter=pgbench")
    expect(page.get_by_text("No session is open")).to_be_visible()
    script = "select 1;\n\\sleep 5 ms\n"
    with subprocess.Popen(
            [cluster.installation.program("pgbench"), "-n", "-f", "/dev/stdin", "-c", "4", "-T", "120",
             f"host=127.0.0.1 port={proxy.port} user=scram_user password=scram-secret dbname=postgres"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=sys.stderr) as bench:
        try:
            bench.stdin.write(script.encode())
            bench.stdin.close()
            expect(page.get_by_text("4 of 4 sessions")).to_be_visible()
            expect(page.locator("tbody tr").first).to_contain_text("scram_user · postgres")
            page.goto("/")
            expect(page.locator("figure[data-chart=statements] canvas")).to_be_visible()
            expect(page.locator(".numbers")).to_contain_text("4 sessions")
        finally:
            bench.kill()
    page.goto("/sessions")
    expect(page.get_by_text("No session is open")).to_be_visible()


def test_a_statement_is_cancelled_and_a_session_terminated(proxy, page):
    with connect(proxy) as client:
        client.pgconn.send_query(b"select pg_sleep(300)")
        page.goto("/sessions")
        page.locator("tbody a").first.click()
        expect(page.locator("#live")).to_contain_text("active for")
        page.get_by_role("link", name="Cancel its statement …").click()
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_text("1 session cancelled.")).to_be_visible()
        assert client.pgconn.get_result().error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"57014"
        while client.pgconn.get_result() is not None:
            pass
        page.locator("tbody a").first.click()
        page.get_by_role("link", name="Terminate …").click()
        page.get_by_role("button", name="Terminate").click()
        expect(page.get_by_text("1 session terminated.")).to_be_visible()
        with pytest.raises(psycopg.OperationalError, match="administrator command"):
            client.execute("select 1")


def test_a_password_is_changed_and_an_open_session_lives_on(cluster, proxy, page):
    cluster.primary.query("create role browsed login password 'first'")
    cluster.catch_up()
    try:
        page.goto("/users")
        page.get_by_role("link", name="Add a user").click()
        page.get_by_label("Name").fill("browsed")
        page.get_by_label("Password", exact=True).fill("first")
        page.get_by_role("button", name="Preview").click()
        expect(page.locator("#preview")).to_contain_text("*** (new)")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("is in force in every worker")).to_be_visible()
        with connect(proxy, "first", "browsed") as old:
            cluster.primary.query("alter role browsed password 'second'")
            cluster.catch_up()
            page.get_by_role("row", name="browsed").get_by_role("link", name="Change").click()
            page.get_by_label("New password").fill("second")
            page.get_by_role("button", name="Save").click()
            expect(page.get_by_text("is in force in every worker")).to_be_visible()
            assert old.execute("select 6").fetchone() == (6,)
            connect(proxy, "second", "browsed").close()
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                connect(proxy, "first", "browsed")
    finally:
        cluster.primary.query("drop role browsed")


def test_a_broken_file_is_reported(proxy, page):
    good = proxy.file.read_text()
    proxy.file.write_text(good + "nonsense: [\n")
    expect(page.locator(".problem.bad")).to_contain_text("The last reload was refused")
    proxy.file.write_text(good)
    expect(page.get_by_text("Everything works.")).to_be_visible()


def test_a_host_is_drained_and_all_reads_go_to_the_primary(cluster, proxy, page):
    with connect(proxy) as client:
        def route():
            client.execute("select 7")
            return client.execute("show pgsplit.last_route").fetchone()[0]

        eventually(lambda: route() == "replica: read")
        page.goto("/clusters")
        page.get_by_role("link", name="Drain").first.click()
        expect(page.get_by_text("Open sessions leave it with their next read")).to_be_visible()
        page.get_by_role("button", name="Drain").click()
        expect(page.get_by_text("is drained").first).to_be_visible()
        eventually(lambda: route() != "replica: read")
        page.get_by_role("link", name="Ready").first.click()
        page.get_by_role("button", name="Ready").click()
        eventually(lambda: route() == "replica: read")
        page.goto("/")
        page.get_by_role("link", name="All reads to the primary …").click()
        page.get_by_role("button", name="All reads to the primary").click()
        expect(page.locator(".problem.note")).to_contain_text("all reads go to the primary")
        eventually(lambda: route() == "primary: reads_to_primary")
        page.get_by_role("link", name="Reads to replicas again …").click()
        page.get_by_role("button", name="Reads to replicas").click()
        eventually(lambda: route() == "replica: read")


def test_dark_and_narrow(page):
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 800})
    for path in PAGES:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 28)"


def test_the_keyboard_keeps_its_place_when_numbers_change(proxy, page):
    with connect(proxy):
        page.goto("/sessions")
        link = page.locator("tbody a").first
        link.focus()
        before = link.get_attribute("id")
        with page.expect_response(lambda answer: "/sessions/part" in answer.url):
            pass
        page.wait_for_timeout(300)
        assert page.evaluate("document.activeElement.id") == before
