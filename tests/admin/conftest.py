"""The admin application in front of a proxy that is not there: what it asks, and is answered, is written down."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest
from werkzeug.security import generate_password_hash

from admin import create_app, login
from admin.instance import Instance
from admin.settings import AdminSettings
from pgsplit.config.model import Operator
from pgsplit.errors import PgSplitError
from pgsplit.stats.histogram import BOUNDS

TOKEN = "token-of-prometheus"
HASH = generate_password_hash("right", method="pbkdf2:sha256:1000")
NASTY = "<script>alert(1)</script>\"'&\r\nX-Evil: 1"


def session(**over: Any) -> dict[str, Any]:
    return {"id": "1-7", "listener": "postgres", "client": "10.0.0.9:5000", "user": "app", "database": "db",
            "application_name": "psql", "tls": True, "upstream_tls": True, "pid": 4711, "primary": "10.0.0.1:5432",
            "replica": "10.0.0.2:5432", "replica_pid": 4712, "no_replica": "",
            "started": time.time() - 5, "state": "idle", "state_since": time.time() - 1,
            "transaction_since": None, "upstream": "replica", "reason": "read", "detail": "", "digest": "select ?",
            "pins": {}, "statements_replica": 3, "statements_primary": 2, "bytes_received": 10, "bytes_sent": 20,
            } | over


def host(**over: Any) -> dict[str, Any]:
    return {"cluster": "replicas", "name": "10.0.0.2:5432", "role": "standby", "writes": False, "healthy": True,
            "why_not": "", "order": "", "lag_bytes": 12, "lag_ms": 0.5,
            "clock_offset_ms": -0.25, "clock_bound_ms": 0.125, "replayed": "0/3000000", "started": "2026",
            "timeline": 1, "note": "",
            "cx_active": 1, "cx_total": 2, "cx_connect_fail": 0} | over


def change(**over: Any) -> dict[str, Any]:
    return {"cluster": "primary", "at": time.time() - 90, "server": "10.0.0.1:5432", "system_identifier": "7001",
            "timeline": 3, "started": 33, "by": "patroni", "from_server": "10.0.0.2:5432", "from_timeline": 2,
            "from_started": 22, "gap_s": 2.5, "kept": 40, "cut": 3, "longest_wait_s": 2.75} | over


class FakeClient:
    """Answers as arbiter and one worker would; *said* are the questions that change something."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.sessions = [session()]
        self.hosts = [host(), host(cluster="primary", name="10.0.0.1:5432", role="primary", writes=True, lag_bytes=0)]
        self.primaries = [{name: change()[name] for name in ("cluster", "at", "server", "system_identifier", "timeline",
                                                             "started", "by")} | {"lost_s": None, "changes": 1}]
        self.changes = [change()]
        self.down = False
        self.mode = "split"
        self.reloads = 0
        self.refused: list[str] = []
        self.asked_users: dict[str, list[dict[str, str]]] = {}
        self.totals = self.counted()
        self.orders: dict[str, Any] = {"hosts": {}, "reads_to_primary": [], "forgotten": {}}

    def workers(self) -> list[int]:
        if self.down:
            raise PgSplitError("no pgsplit answers")
        return [1]

    def arbiter(self, what: str, /, **args: Any) -> Any:
        if self.down:
            raise PgSplitError("no pgsplit answers")
        if what in ("audit_add", "order_forget_term", "order_host", "order_reads", "reload", "users_save"):
            self.said.append((what, args))
        return getattr(self, f"_{what}")(**args)

    def worker(self, number: int, what: str, /, **args: Any) -> Any:
        if what in ("cancel_session", "terminate", "forget_writes", "check_now", "test_login"):
            self.said.append((what, args))
            return "" if what == "test_login" else True
        if what == "sessions":
            return self.sessions
        if what == "session":
            if args["number"] != 7:
                raise PgSplitError("there is no such session any more")
            return {"session": self.sessions[0], "decisions": [
                {"time": time.time(), "microseconds": 900, "upstream": "replica", "reason": "read", "detail": "",
                 "digest": self.sessions[0]["digest"]}]}
        if what == "hosts":
            return self.hosts
        if what == "topology":
            return {"primaries": self.primaries, "changes": self.changes}
        if what == "terms":
            return {"primary": 3}
        if what == "asked_users":
            return self.asked_users
        if what == "scram_salt":
            return {"salt": "c2FsdHNhbHQ=", "iterations": 4096}
        assert what == "digests"
        return {"top": [{"digest": self.sessions[0]["digest"], "replica": 3, "primary": 1, "reasks": 0, "errors": 0,
                         "reason": "read", "total_us": 1200, "buckets": [4] + [0] * len(BOUNDS)}],
                "writes": ["select f(?)"]}

    def _about(self) -> dict[str, Any]:
        return {"version": "0", "pid": 1, "started": time.time() - 60, "generation": 3, "workers_wanted": 1,
                "restarts": 0, "orders": self.orders, "clusters": ["replicas", "primary"], "reloading": False,
                "last_reload": self._last_reload(),
                "listeners": [{"name": "postgres", "stat_prefix": "postgres", "split_rw": True, "mode": self.mode,
                               "addresses": ["127.0.0.1:6432"], "read_cluster": "replicas", "write_cluster": "primary",
                               "consistency": "global", "max_connections": 0, "tls": "ALLOW", "certificate": None}]}

    def _last_reload(self) -> dict[str, Any]:
        return {"number": self.reloads, "generation": 3, "ok": not self.refused, "problems": self.refused,
                "time": time.time()}

    def _reload(self) -> dict[str, Any]:
        self.reloads += 1
        return self._last_reload()

    def _workers(self) -> list[dict[str, Any]]:
        return [{"worker": 1, "pid": 2, "booted": True, "sessions": 1, "started": time.time() - 60, "leaving": False,
                 "generation": 3, "relay": "pure Python"}]

    def _totals(self) -> dict[str, int]:
        return self.totals

    @staticmethod
    def counted() -> dict[str, int]:
        return {"postgres.postgres.statements_replica": 3, "postgres.postgres.statements_primary": 2,
                "postgres.postgres.sessions_active": 1, "postgres.postgres.errors": 0, "postgres.postgres.reasks": 0,
                "postgres.postgres.decisions.replica.read": 3, "postgres.postgres.reasks.25006": 1,
                "postgres.postgres.latency_replica_us.le_700": 3, "postgres.postgres.latency_replica_us.sum_us": 1500,
                "postgres.postgres.latency_primary_us.sum_us": 900,
                "postgres.postgres.reads.replica": 3, "postgres.postgres.reads.primary": 1,
                "postgres.postgres.reads_us.replica": 1500, "postgres.postgres.reads_us.primary": 500,
                "postgres.postgres.reads_kept.clock": 1, "postgres.postgres.reads_kept_us.clock": 500,
                "postgres.postgres.own.primary.settings": 1, "postgres.postgres.own_us.primary.settings": 60,
                "cluster.primary.own.primary.sample": 4, "cluster.primary.own_us.primary.sample": 40,
                "cluster.replicas.10.0.0.2:5432.lag_bytes": 12}

    def _history(self, since: float) -> list[dict[str, Any]]:
        return [{"time": time.time(), "replica": 3, "primary": 2, "reasks": 0, "errors": 0, "fence_timeouts": 0,
                 "logins": 0, "sessions_active": 1, "lag": {}, "p50": 1, "p95": 2, "p99": 3}]

    def _configuration(self) -> dict[str, Any]:
        return {"text": "secret: '***'\n", "sources": {"pgsplit.watch": "default"}, "files": ["t.yaml"], "warnings": []}

    def _function_lists(self) -> dict[str, Any]:
        return {"replica": ["app.is_*"], "primary": []}

    def _users(self) -> list[dict[str, Any]]:
        return [{"listener": "postgres", "file": "t.yaml", "version": "v1", "problem": "",
                 "auth_user": "app" if self.asked_users else "",
                 "users": [{"name": "app", "stored": "clear", "monitor": True},
                           {"name": self.sessions[0]["user"], "stored": "scram", "monitor": False}]}]

    def _users_preview(self, listener: str, version: str, changes: list[Any]) -> dict[str, Any]:
        if version != "v1":
            raise PgSplitError("t.yaml has changed meanwhile: load the list again")
        return {"file": "t.yaml", "diff": '--- t.yaml\n+++ t.yaml\n+  "neu": "*** (new)"'}

    def _users_save(self, **args: Any) -> dict[str, Any]:
        self._users_preview(**args)
        self.reloads += 1
        return {"number": self.reloads - 1}

    def _order_host(self, cluster: str, host: str, order: str) -> Any:
        return self.orders

    def _order_forget_term(self, cluster: str) -> Any:
        return self.orders

    def _order_reads(self, listener: str, to_primary: bool) -> Any:
        if listener != "postgres":
            raise PgSplitError(f"there is no listener {listener!r} that splits reads from writes")
        self.orders["reads_to_primary"] = [listener] if to_primary else []
        return self.orders

    def _audit_add(self, **args: Any) -> bool:
        return True

    def _audit(self) -> list[dict[str, Any]]:
        return [{"time": time.time(), "who": NASTY, "what": "log in", "from": "::1", "result": "refused"}]

    def _log(self) -> list[dict[str, Any]]:
        return [{"time": time.time(), "pid": 1, "level": "warning", "text": f"10.0.0.9: {NASTY}"}]


@pytest.fixture
def proxy():
    return FakeClient()


@pytest.fixture
def make(proxy):
    """Makes the application; keywords go over the settings. A client is ``make().test_client()``."""
    login._failures.clear()

    def make(**over):
        operators = {name: Operator(name=name, password=HASH, role=role)
                     for name, role in (("admin", "admin"), ("eve", "viewer"))}
        settings = {"operators": operators, "key": b"k" * 32,
                    "secrets": dict.fromkeys(operators, HASH), "hosts": frozenset({"pgsplit.example.com"}),
                    "tokens": {hashlib.sha256(TOKEN.encode()).hexdigest(): ("prometheus", "viewer")},
                    "trusted_proxies": (), "read_only": False, "prefix": "", "tls": False} | over
        return create_app(Instance(proxy), AdminSettings(**settings))

    return make


class Browser:
    """A client that logs in, and sends the CSRF token as a form does."""

    def __init__(self, app, name="admin", host="127.0.0.1"):
        self.client = app.test_client()
        self.base = f"http://{host}"
        if name:
            answer = self.post("/login", {"name": name, "password": "right"})
            assert answer.status_code == 302, answer.text

    def get(self, path, **keywords):
        return self.client.get(path, base_url=self.base, **keywords)

    def post(self, path, form=None, csrf=True, **keywords):
        data = dict(form or {})
        if csrf:
            data["csrf_token"] = self.token()
        return self.client.post(path, data=data, base_url=self.base, **keywords)

    def token(self):
        page = self.get("/login").text
        return page.split('name="csrf_token" value="')[1].split('"')[0]


@pytest.fixture
def browser(make):
    return Browser(make())
