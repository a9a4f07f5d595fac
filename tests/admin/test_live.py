"""The whole of it, on a real primary and standby: what is ordered and edited takes effect in every worker at once."""

from __future__ import annotations

import json
import os
import stat
import time
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from urllib.parse import urlencode

import psycopg
import pytest
import yaml

from pgsplit.demo import ports
from tests.waiting import eventually

ROLE = "scram_user"


class Page:
    """A client of the admin page that has logged in."""

    def __init__(self, proxy):
        self.base = f"http://{proxy.admin}"
        self._open = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar())).open
        self.post("/login", name="admin", password=proxy.admin_password)

    def get(self, path):
        with self._open(self.base + path, timeout=30) as answer:
            return answer.read().decode()

    def json(self, path):
        return json.loads(self.get(f"/api/v1/{path}"))

    def post(self, path, **form):
        token = self.get("/login").split('name="csrf_token" value="')[1].split('"')[0]
        request = urllib.request.Request(self.base + path, urlencode({**form, "csrf_token": token}).encode())
        try:
            with self._open(request, timeout=60) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            return f"{error.code} {error.read().decode()}"


@pytest.fixture
def proxy(pgsplit_server):
    admin = f"{ports.HOST}:{ports.choose()}"
    return pgsplit_server(admin=admin, consistency="session", pgsplit={"workers": 2, "fence_wait": "60s"})


@pytest.fixture
def page(proxy):
    return Page(proxy)


@pytest.fixture
def role(cluster):
    """A role that may be given other passwords."""
    cluster.primary.query("create role changing login password 'first'")
    cluster.catch_up()
    yield "changing"
    cluster.primary.query("drop role changing")


def connect(cluster, proxy, user, password):
    return psycopg.connect(host="127.0.0.1", port=proxy.port, user=user, password=password, dbname="postgres",
                           autocommit=True, connect_timeout=30)


def upstream(connection):
    return connection.execute("select 1 as one; show pgsplit.last_route") and connection.execute(
        "show pgsplit.last_route").fetchone()[0].partition(":")[0]


def save(page, name, password, stored="clear", **more):
    version = page.json("users")["lists"][0]["version"]
    return page.post("/users/postgres/save", name=name, password=password, stored=stored, version=version, **more)


def test_sessions_are_seen_cancelled_and_terminated(cluster, proxy, page):
    with connect(cluster, proxy, ROLE, "scram-secret") as client:
        client.execute("select 1")
        [session] = eventually(lambda: [s for s in page.json("sessions")["sessions"] if s["user"] == ROLE])
        assert session["state"] == "idle" and session["statements_replica"] + session["statements_primary"] >= 1
        assert "select ?" in page.get(f"/sessions/{session['id']}")
        client.pgconn.send_query(b"select pg_sleep(60)")
        eventually(lambda: page.json(f"sessions/{session['id']}")["session"]["state"] == "active")
        page.post(f"/sessions/{session['id']}/cancel")
        result = client.pgconn.get_result()
        assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"57014"
        while client.pgconn.get_result() is not None:
            pass
        page.post(f"/sessions/{session['id']}/terminate")
        with pytest.raises(psycopg.OperationalError, match="administrator command"):
            client.execute("select 1")
    eventually(lambda: not [s for s in page.json("sessions")["sessions"] if s["user"] == ROLE])
    deeds = [entry["what"] for entry in page.json("log")["audit"]]
    assert f"terminate {session['id']}" in deeds


def test_all_reads_to_the_primary_and_back(cluster, proxy, page):
    with connect(cluster, proxy, ROLE, "scram-secret") as client:
        def route():
            client.execute("select 2")
            return client.execute("show pgsplit.last_route").fetchone()[0]

        eventually(lambda: route() == "replica: read")
        page.post("/overview/reads/postgres", to="primary")
        eventually(lambda: route() == "primary: reads_to_primary")
        os.kill(proxy.client.arbiter("workers")[0]["pid"], 9)       # the order outlives a worker
        eventually(lambda: len([w for w in proxy.client.arbiter("workers") if w["booted"]]) == 2)
        for _ in range(4):
            with connect(cluster, proxy, ROLE, "scram-secret") as other:
                other.execute("select 3")
                assert other.execute("show pgsplit.last_route").fetchone()[0] == "primary: reads_to_primary"
        page.post("/overview/reads/postgres", to="replicas")
    with connect(cluster, proxy, ROLE, "scram-secret") as client:
        eventually(lambda: client.execute("select 2") and client.execute("show pgsplit.last_route").fetchone()[0]
                   == "replica: read")


@pytest.mark.parametrize("order", ["drain", "maintenance"])
def test_reads_leave_a_host_and_come_back(cluster, proxy, page, order):
    host = cluster.standbys[0].address
    with connect(cluster, proxy, ROLE, "scram-secret") as client:
        def reads_from_replica():
            client.execute("select 4")
            return client.execute("show pgsplit.last_route").fetchone()[0] == "replica: read"

        eventually(reads_from_replica)
        page.post(f"/clusters/replicas/{host}/{order}")
        eventually(lambda: not reads_from_replica())
        assert "operator" in page.get("/overview/part")
        eventually(lambda: [h["cx_active"] for h in page.json("clusters")["hosts"] if h["name"] == host] == [0])
        page.post(f"/clusters/replicas/{host}/ready")
        eventually(reads_from_replica)


def test_a_password_is_changed_without_touching_an_open_session(cluster, proxy, page, role):
    before = proxy.file.read_text()
    assert "in force in every worker" in save(page, role, "first")
    with connect(cluster, proxy, role, "first") as old:
        old.execute("select 1")
        cluster.primary.query("alter role changing password 'second'")
        cluster.catch_up()
        assert "in force in every worker" in save(page, role, "second")
        assert old.execute("select 5").fetchone() == (5,)
        for _ in range(4):
            with connect(cluster, proxy, role, "second") as new:
                new.execute("create temp table t (a int)")
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                connect(cluster, proxy, role, "first")
    assert "is deleted" in save(page, role, "", action="delete")
    assert proxy.file.read_text() == before
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(cluster, proxy, role, "second")
    assert f'password authentication failed for user "{role}" (not in the user_list)' in proxy.log.read_text()


def test_a_verifier_is_made_with_the_servers_salt(cluster, proxy, page, role):
    assert "in force in every worker" in save(page, role, "first", stored="scram")
    assert "SCRAM-SHA-256$4096:" in proxy.file.read_text() and "first" not in proxy.file.read_text()
    with connect(cluster, proxy, role, "first") as client:
        client.execute("create temp table t (a int)")
    assert "can log in at the primary" in page.post("/users/postgres/test", name=role, password="first")
    assert "cannot log in at the primary" in page.post("/users/postgres/test", name=role, password="wrong")


def test_a_deleted_user_s_sessions_end_if_that_is_asked_for(cluster, proxy, page, role):
    save(page, role, "first")
    with connect(cluster, proxy, role, "first") as client:
        client.execute("select 1")
        assert "1 sessions terminated" in save(page, role, "", action="delete", terminate="1")
        with pytest.raises(psycopg.OperationalError):
            client.execute("select 1")


def test_owner_mode_and_link_of_the_file_are_kept(cluster, pgsplit_server, tmp_path):
    real, link = tmp_path / "real.yaml", tmp_path / "users.yaml"
    real.write_text("# ours\npostgres: unused\nscram_user: scram-secret   # app\n")
    real.chmod(0o640)
    os.chown(real, os.getuid(), os.getgid())
    link.symlink_to(real)
    proxy = pgsplit_server(users=None, users_file=str(link), admin=f"{ports.HOST}:{ports.choose()}")
    page = Page(proxy)
    assert "in force" in save(page, "neu", "x")
    assert link.is_symlink() and stat.S_IMODE(real.stat().st_mode) == 0o640
    assert real.read_text() == "# ours\npostgres: unused\nscram_user: scram-secret   # app\n\"neu\": \"x\"\n"


def test_a_changed_file_is_noticed_and_a_broken_one_changes_nothing(cluster, proxy, page, role):
    configuration = yaml.safe_load(proxy.file.read_text())
    configuration["users"][role] = "first"
    replacement = proxy.file.with_suffix(".new")
    replacement.write_text(yaml.safe_dump(configuration))
    replacement.rename(proxy.file)                      # as editors do it
    with eventually(lambda: tried(cluster, proxy, role, "first")) as client:
        client.execute("select 1")
    good = proxy.file.read_text()
    proxy.file.write_text(good + "users: [\n")
    eventually(lambda: "The last reload was refused" in page.get("/overview/part"))
    assert "pgsplit.yaml:" in page.get("/configuration")
    connect(cluster, proxy, role, "first").close()
    proxy.file.write_text(good.replace("first", "another"))
    eventually(lambda: "Everything works" in page.get("/overview/part"))


def tried(cluster, proxy, user, password):
    try:
        return connect(cluster, proxy, user, password)
    except psycopg.OperationalError:
        return None


def test_an_edit_that_the_workers_refuse_is_not_saved(cluster, proxy, page):
    before = proxy.file.read_text()
    assert save(page, "postgres", "", action="delete").startswith("409")      # the monitor user
    assert proxy.file.read_text() == before
    stale = page.json("users")["lists"][0]["version"]
    proxy.file.write_text(before + "# edited by hand\n")
    answer = page.post("/users/postgres/save", name="neu", password="x", stored="clear", version=stale)
    assert answer.startswith("409") and "has changed meanwhile" in answer


def test_the_admin_process_is_restarted_and_nobody_logged_out(cluster, proxy, page):
    import subprocess

    children = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(proxy.pid)], capture_output=True, text=True)
    [admin] = [int(line.split()[0]) for line in children.stdout.splitlines() if "pgsplit: admin" in line]
    os.kill(admin, 9)
    def again():
        try:
            return "Log out" in page.get("/overview/part") or "Workers" in page.get("/overview/part")
        except OSError:
            return False

    eventually(again)
    assert stat.S_IMODE((proxy.run_dir / "admin-password").stat().st_mode) == 0o600


def test_no_secret_on_any_page(cluster, proxy, page):
    texts = [page.get(path) for path in ("/", "/sessions", "/users", "/configuration", "/log", "/api/v1/configuration",
                                          "/api/v1/users", "/users/postgres/edit?name=scram_user", "/metrics")]
    for secret in ("scram-secret", "md5-secret", "password-secret", "postgres-secret", proxy.admin_password):
        assert not any(secret in text for text in texts), secret


def test_a_new_connection_of_an_open_session_uses_the_new_secret(cluster, proxy, page, role):
    host = cluster.standbys[0].address
    save(page, role, "first")
    with connect(cluster, proxy, role, "first") as client:

        def reads_on_a_replica():
            client.execute("select 9")
            return client.execute("show pgsplit.last_route").fetchone()[0] == "replica: read"

        eventually(reads_on_a_replica)
        cluster.primary.query("alter role changing password 'second'")
        cluster.catch_up()
        save(page, role, "second")
        page.post(f"/clusters/replicas/{host}/maintenance")
        eventually(lambda: [s["replica"] for s in page.json("sessions")["sessions"] if s["user"] == role] == [""])
        page.post(f"/clusters/replicas/{host}/ready")
        eventually(reads_on_a_replica)
        assert [s["replica"] for s in page.json("sessions")["sessions"] if s["user"] == role] == [host]
    save(page, role, "", action="delete")


def test_the_topology_of_a_real_pair(cluster, proxy, page):
    primary, standby = cluster.primary.address, cluster.standbys[0].address

    def complete():
        [found] = page.json("topology")["clusters"]
        rows = {server["server"]: server for server in found["servers"]}
        return rows[standby]["clock_offset_ms"] is not None and rows[standby]["lag_ms"] is not None and found

    found = eventually(complete)
    [(system, timeline)] = cluster.primary.query(
        "select system_identifier::text, timeline_id from pg_control_system(), pg_control_checkpoint()")
    known = found["primary"]
    assert (known["server"], known["system_identifier"], known["by"]) == (primary, system, "servers")
    assert known["timeline"] == found["timeline"] == timeline and known["lost_s"] is None and known["changes"] == 0
    assert 0 <= time.time() - known["at"] < 3600
    shown = [tuple(server[name] for name in ("server", "role", "status", "timeline")) for server in found["servers"]]
    assert shown == [
        (primary, "primary", "used for writes", timeline), (standby, "standby", "used for reads", timeline)]
    text = page.get("/topology")
    assert primary in text and "recovery and timeline" in text and "None since the workers were started." in text
    metrics = page.get("/metrics")
    assert f'pgsplit_primary_since_seconds{{by="servers",cluster="primary",server="{primary}"}}' in metrics
    assert 'pgsplit_primary_changes_total{cluster="primary"} 0.0' in metrics
