"""The table of pgsplit's own settings: it feeds the loader, the documentation and the checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from . import units

# PgBouncer's own. A password that VALID UNTIL has ended is none (CVE-2025-2291).
AUTH_QUERY: Final = ("SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END "
                     "FROM pg_authid WHERE rolname = $1 AND rolcanlogin")

Scope = Literal["process", "listener", "cluster"]


@dataclass(frozen=True)
class Setting:
    """*default* as it would be written; None: given by whoever loads. *least*: the smallest value that makes sense."""

    name: str
    parse: Callable[[str], Any]
    default: str | None
    scope: Scope
    reloadable: bool
    help: str
    choices: tuple[str, ...] = ()
    least: float | None = None

    @property
    def unit(self) -> str:
        return " | ".join(self.choices) or {units.duration: "duration", units.size: "size", units.integer: "number",
                                            units.boolean: "true | false", units.text: "text",
                                            units.names: "names, with commas between them",
                                            units.auth_methods: "methods, with commas between them"}[self.parse]

    def read(self, text: str) -> Any:
        """:raises ValueError: saying what is expected."""
        value = self.parse(text)
        if self.choices and value not in self.choices:
            raise ValueError(f"{text!r} is not one of {', '.join(self.choices)}")
        if self.least is not None and value < self.least:
            raise ValueError(f"{text!r} is less than {self.least:g}")
        return value


SETTINGS: Final = (
    Setting("workers", units.integer, None, "process", True, "worker processes; default: one a core", least=1),
    Setting("run_dir", units.text, None, "process", False,
            "directory (mode 0700) for the sockets through which the processes talk"),
    Setting("pidfile", units.text, "", "process", False, "file that holds the arbiter's process id"),
    Setting("log_level", units.text, "info", "process", True, "what is logged",
            choices=("debug", "info", "warning", "error", "critical")),
    Setting("log_file", units.text, "", "process", False, "log to this file instead of standard error"),
    Setting("watch", units.boolean, "true", "process", True,
            "reload when a file of the configuration changes"),
    Setting("graceful_timeout", units.duration, "30s", "process", True,
            "after TERM: how long a session inside a transaction may take to finish it"),
    Setting("drain_time", units.duration, "10min", "process", True,
            "after USR2: how long sessions of the old process may go on before it drains as with TERM"),
    Setting("worker_timeout", units.duration, "30s", "process", True,
            "a worker that gives no sign of life for so long is replaced", least=2),
    Setting("backlog", units.integer, "2048", "process", False, "connections that may wait to be accepted", least=1),
    Setting("statement_cache", units.integer, "10000", "process", False, "classified SQL texts kept in a worker",
            least=1),
    Setting("catalogue", units.boolean, "true", "process", True,
            "read each database's definitions: what its views, functions, policies, types and operators do; else they "
            "are taken for what they look like"),
    Setting("replica_functions", units.names, "", "process", True,
            "functions of yours (app.is_*, my_function) that may read from replicas: they change nothing"),
    Setting("primary_functions", units.names, "", "process", True,
            "functions that never read from replicas, though pgsplit knows no reason"),
    Setting("console_database", units.text, "pgsplit", "process", True,
            "the database name under which the SQL console is reached, where somebody may use it"),
    Setting("admin_users", units.names, "", "process", True,
            "listed users who may use the SQL console, RELOAD and FORGET TERM too"),
    Setting("stats_users", units.names, "", "process", True, "listed users who may look there, and no more"),
    Setting("zone", units.text, "", "process", True,
            "where this pgsplit runs: servers of the same zone are preferred"),
    Setting("mode", units.text, "split", "listener", True,
            "observe: all goes to the primary, and nothing waits; what would have moved to replicas is counted",
            choices=("split", "observe")),
    Setting("consistency", units.text, "global", "listener", True,
            "which writes a read is sure to see: none, the session's own, those and what is older than max_staleness, "
            "all of this node, or all of everybody", choices=("eventual", "session", "bounded", "global", "cluster")),
    Setting("max_staleness", units.duration, "1s", "listener", True,
            "consistency: bounded: what was acknowledged longer ago than this before a read began, it sees",
            least=0.01),
    Setting("transactions", units.text, "until_write", "listener", True,
            "which transactions read on replicas: all up to their first write, those that are READ ONLY, or none; "
            "without consistency: global or cluster, until_write has to be asked for",
            choices=("until_write", "read_only", "primary")),
    Setting("hold_begin", units.boolean, "true", "listener", True,
            "BEGIN is answered at once, and opened where its first statement goes; false: it is sent to the primary at "
            "once, whose now() is then the BEGIN's time"),
    Setting("repeatable_read_only", units.text, "primary", "listener", True,
            "where REPEATABLE READ READ ONLY transactions run; on a replica, one that needs the primary, or that "
            "replay has to end, is told 40001", choices=("replica", "primary")),
    Setting("clock", units.text, "primary", "listener", True,
            "whose clock now() and its like tell outside a transaction: the primary's, or also that of a replica which "
            "is known to differ by max_clock_skew at most", choices=("primary", "replica")),
    Setting("max_clock_skew", units.duration, "2ms", "listener", True,
            "with clock: replica, by how much a replica's clock may differ from the primary's; what was measured "
            "counts with its error"),
    Setting("read_fallback", units.text, "primary", "listener", True,
            "what becomes of a read that no replica can serve", choices=("primary", "error")),
    Setting("unlisted_users", units.text, "reject", "listener", True,
            "a user who is not in user_list is refused, or may only read", choices=("reject", "read_only")),
    Setting("auth_user", units.text, "", "listener", True,
            "a listed user, as whom the primary is asked for users who are not in user_list; none: nobody is asked"),
    Setting("auth_query", units.text, AUTH_QUERY, "listener", True,
            "what it is asked: $1 is the user's name; a name and a secret come back"),
    Setting("auth_dbname", units.text, "postgres", "listener", True, "the database in which it is asked"),
    Setting("login_without_primary", units.boolean, "false", "listener", True,
            "while the primary is away, new sessions may log in to read"),
    Setting("login_wait", units.duration, "3s", "listener", True,
            "how long a login waits for a primary that is away"),
    Setting("failover_wait", units.duration, "30s", "listener", True,
            "sessions outlive their connection to the primary, and what needs the next one waits for it so long; 0s: "
            "they end with it"),
    Setting("lost_transaction", units.text, "fatal", "listener", True,
            "what becomes of a transaction whose primary is lost: the session ends, or it is told 40001 and goes on",
            choices=("fatal", "abort")),
    Setting("park_after", units.duration, "0s", "listener", True,
            "a session that has been idle so long gives its server connections back until it wants them; 0s: never"),
    Setting("fence_wait", units.duration, "5ms", "listener", True,
            "how long a read waits for a replica that is fresh enough before it goes to the primary"),
    Setting("reask_buffer", units.size, "64KiB", "listener", True,
            "so much of a replica's answer is held back until it is known to be whole", least=1024),
    Setting("reask_hold", units.duration, "50ms", "listener", True,
            "so long after its first row a replica's answer is held back"),
    Setting("client_login_timeout", units.duration, "60s", "listener", True,
            "a client that has not logged in by then is dropped", least=0.1),
    Setting("max_statement_bytes", units.size, "64KiB", "listener", True,
            "a longer SQL text is not analysed: it goes to the primary", least=1),
    Setting("max_connections", units.integer, "0", "listener", True,
            "sessions of a listener, over all workers; one more is refused with 53300. 0: any number", least=0),
    Setting("max_user_connections", units.integer, "0", "listener", True,
            "the same for each user; those who are not in user_list count as one", least=0),
    Setting("role", units.text, None, "cluster", True,
            "what its endpoints are: replicas, primaries, or auto: some are the one and some the other, which is found "
            "out; default: as listeners use the cluster, with servers: auto", choices=("read", "write", "auto")),
    Setting("max_lag_bytes", units.size, "0", "cluster", True,
            "a replica further behind the primary's write-ahead log is not used until it is half as far; 0: any"),
    Setting("max_lag", units.duration, "0s", "cluster", True,
            "the same, by the time since which all is known to be replayed; 0s: any"),
    Setting("dns_refresh", units.duration, "5s", "cluster", True, "how often STRICT_DNS names are resolved",
            least=0.1),
    Setting("health_interval", units.duration, "1s", "cluster", True, "time between two health checks of a host",
            least=0.05),
    Setting("health_timeout", units.duration, "3s", "cluster", True, "a health check that takes longer has failed",
            least=0.05),
    Setting("sslnegotiation", units.text, "postgres", "cluster", True,
            "how TLS to a host begins: asked for by SSLRequest, or direct, with the first byte (PostgreSQL 17)",
            choices=("postgres", "direct")),
    Setting("upstream_auth", units.auth_methods, "", "cluster", True,
            "what a host may ask for at a login: none, password, md5, scram-sha-256, as libpq's require_auth has them; "
            "by default the strongest that the user's entry can do, or more where the host is verified"),
)
BY_NAME: Final = {setting.name: setting for setting in SETTINGS}


def of_scope(scope: Scope) -> tuple[Setting, ...]:
    return tuple(setting for setting in SETTINGS if setting.scope == scope)
