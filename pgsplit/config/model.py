"""The configuration as the rest of pgsplit sees it: immutable, complete, checked.

The loader makes it from YAML in any of its shapes; the arbiter sends it to the workers as JSON.
Durations are seconds, sizes bytes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Consistency = Literal["eventual", "session", "bounded", "global", "cluster"]
TlsMode = Literal["DISABLE", "ALLOW", "REQUIRE"]
TlsVersion = Literal["TLSv1.2", "TLSv1.3"]
AuthMethod = Literal["none", "password", "md5", "scram-sha-256"]
Role = Literal["viewer", "admin"]
ClusterRole = Literal["read", "write", "auto"]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Address(Model):
    """A TCP address (IPv4, IPv6 or a name), or with ``path`` a Unix socket: host is '', port names `.s.PGSQL.PORT`."""

    host: str
    port: int
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class User(Model):
    """An item of ``user_list``: ``secret`` is a clear password, ``md5<32 hex>`` or a ``SCRAM-SHA-256$…`` verifier.

    Or it is ``cert``: a certificate lets the client in, one of whose names is the user's, or is mapped to the user by a
    line of ``map``. ``upstream_secret``, which may be empty, is then what pgsplit logs in with.
    """

    username: str
    secret: str
    clientname: Literal["CN", "SAN"] = "CN"
    map: tuple[tuple[str, str], ...] | None = None      # (name of a certificate, user) as in pg_ident.conf
    upstream_secret: str = ""

    def __repr__(self) -> str:
        return f"User(username={self.username!r}, secret='***')"

    __str__ = __repr__


class TlsParams(Model):
    """Envoy's ``tls_params``. ``cipher_suites`` are those of TLS 1.2; empty: OpenSSL's own, as with ``ecdh_curves``."""

    minimum: TlsVersion = "TLSv1.2"
    maximum: TlsVersion | None = None
    cipher_suites: tuple[str, ...] = ()
    ecdh_curves: tuple[str, ...] = ()


class ServerTls(Model):
    """Certificate chain and key that listeners show to clients (PEM file names), and how clients' are checked.

    Without ``client_ca`` no client is asked for one; ``crl``: lists of what has been revoked, one for each CA.
    """

    certificate: str
    key: str
    params: TlsParams = TlsParams()
    client_ca: str | None = None
    crl: str | None = None
    require_client_certificate: bool = False


class UpstreamTls(Model):
    """How an upstream's certificate is checked; without ``ca`` it is not (libpq's ``sslmode=require``).

    ``certificate`` and ``key`` are what pgsplit shows to it, both or none.
    """

    ca: str | None = None
    san: tuple[str, ...] = ()      # exact names, one of which the certificate must carry
    sni: str | None = None
    params: TlsParams = TlsParams()
    crl: str | None = None         # lists of what has been revoked
    certificate: str | None = None
    key: str | None = None


class Listener(Model):
    """One listening address and what it does: Envoy's listener with ``postgres_proxy`` and ``tcp_proxy``."""

    name: str
    addresses: tuple[Address, ...]
    stat_prefix: str
    enable_sql_parsing: bool
    downstream_ssl: TlsMode
    upstream_ssl: Literal["DISABLE", "REQUIRE"]
    split_rw: bool
    read_cluster: str
    write_cluster: str             # the read cluster's name when split_rw is off
    users: tuple[User, ...]
    tls: ServerTls | None
    # routing settings: pgsplit.*, overridden by pgsplit.listeners.<name>.*
    mode: Literal["split", "observe"] = "split"
    consistency: Consistency
    max_staleness: float
    transactions: Literal["until_write", "read_only", "primary"]
    hold_begin: bool
    repeatable_read_only: Literal["replica", "primary"]
    clock: Literal["primary", "replica"]
    max_clock_skew: float
    read_fallback: Literal["primary", "error"]
    unlisted_users: Literal["reject", "read_only"]
    auth_user: str                 # '': nobody is asked for users who are not in `users`
    auth_query: str
    auth_dbname: str
    login_without_primary: bool
    login_wait: float
    failover_wait: float           # 0: sessions end with their connection to the primary
    lost_transaction: Literal["fatal", "abort"]
    park_after: float              # 0: never
    fence_wait: float
    reask_buffer: int
    reask_hold: float
    client_login_timeout: float
    max_statement_bytes: int       # a longer SQL text is not lexed: its first keyword sends it to the primary
    max_connections: int           # sessions over all workers; 0: any number
    max_user_connections: int

    @property
    def observes(self) -> bool:
        """Whether it counts what it would split, and splits nothing."""
        return self.split_rw and self.mode == "observe"

    def listed(self, username: str) -> User | None:
        """The user's entry in the list."""
        return next((user for user in self.users if user.username == username), None)


LbPolicy = Literal["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"]


class Placement(Model):
    """Which sessions an endpoint gets: its share beside others; when, the lowest number first; and where it is."""

    weight: int = 1
    priority: int = 0
    zone: str = ""


class Topology(Model):
    """Who says which of a write cluster's servers is the primary. ``patroni``: its members' REST API, with how TLS is
    checked (``ca``; else the system's), what is shown to it, and basic authentication.
    """

    source: Literal["sql", "patroni"] = "sql"
    patroni: tuple[str, ...] = ()
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Topology(source={self.source!r}, patroni={self.patroni!r}, username={self.username!r}, password='***')"

    __str__ = __repr__


class Cluster(Model):
    """Hosts that serve alike: Envoy's cluster."""

    name: str
    type: Literal["STATIC", "STRICT_DNS"]
    lb_policy: LbPolicy
    connect_timeout: float
    endpoints: tuple[Address, ...]
    placements: tuple[Placement, ...] = ()         # of the endpoints, in their order; none: all alike
    tls: UpstreamTls
    topology: Topology = Topology()
    # pgsplit.*, overridden by pgsplit.clusters.<name>.*
    role: ClusterRole              # auto: an endpoint may have the other role, and is then none of the cluster's
    max_lag_bytes: int
    max_lag: float
    dns_refresh: float
    health_interval: float
    health_timeout: float
    sslnegotiation: Literal["postgres", "direct"]
    upstream_auth: tuple[AuthMethod, ...]      # what hosts may ask for; empty: the default of auth/allowed.py


class Monitor(Model):
    """Who pgsplit is when it checks a host's health: a listed user, and the database it connects to."""

    username: str
    database: str
    secret: str

    def __repr__(self) -> str:
        return f"Monitor(username={self.username!r}, database={self.database!r}, secret='***')"

    __str__ = __repr__


class Operator(Model):
    """Who may log in to the admin page; ``password`` is the hash that `pgsplit hash-password` prints."""

    name: str
    password: str
    role: Role

    def __repr__(self) -> str:
        return f"Operator(name={self.name!r}, role={self.role!r}, password='***')"

    __str__ = __repr__


class Token(Model):
    """A bearer token of the machine interfaces, known by its SHA-256."""

    name: str
    sha256: str
    role: Role


class Admin(Model):
    """The admin page. Without operators a random password is made at start."""

    address: Address
    operators: tuple[Operator, ...]
    tokens: tuple[Token, ...]
    hosts: tuple[str, ...]              # names by which it may be asked for, besides its address
    trusted_proxies: tuple[str, ...]    # networks whose X-Forwarded-* are believed
    read_only: bool
    prefix: str                         # of every URL, such as /pgsplit
    tls: ServerTls | None
    audit_log: str | None               # None: audit.log in run_dir


class Process(Model):
    """What concerns the processes and not the traffic."""

    workers: int
    run_dir: str
    pidfile: str | None
    log_level: Literal["debug", "info", "warning", "error", "critical"]
    log_file: str | None
    watch: bool                    # reload when a file changes
    graceful_timeout: float        # TERM: how long sessions inside a transaction may take to finish
    drain_time: float              # USR2: how long sessions of the old process go on undisturbed
    worker_timeout: float          # a worker whose heartbeat is older is replaced
    backlog: int
    statement_cache: int           # classified SQL texts kept a worker
    catalogue: bool                # the databases' definitions are read
    replica_functions: tuple[str, ...]      # patterns
    primary_functions: tuple[str, ...]
    console_database: str
    admin_users: tuple[str, ...]
    stats_users: tuple[str, ...]
    zone: str                      # '': not known


class Config(Model):
    """A whole configuration. ``generation`` counts the reloads that took effect."""

    generation: int
    listeners: tuple[Listener, ...]
    clusters: tuple[Cluster, ...]
    admin: Admin | None
    monitor: Monitor
    process: Process

    def cluster(self, name: str) -> Cluster:
        return next(c for c in self.clusters if c.name == name)
