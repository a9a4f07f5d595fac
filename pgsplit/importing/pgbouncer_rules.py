"""What becomes of each setting of pgbouncer.ini, but for those that `pgbouncer` reads together."""

from __future__ import annotations

from typing import Final

from .draft import Draft
from .rules import Rule, duration, is_off, names, nothing, number, other, taken
from .source import Entry

SECONDS: Final = duration("s")
POOL: Final = ("pgsplit is not a pool: a session has one connection to the primary, and one to a replica once it "
               "reads, for its whole life")
OFF: Final = "is off, and there is nothing of the kind here"
SYSTEM: Final = "the system's own values hold (sysctl net.ipv4.tcp_keepalive_*); keepalive is always on"
EVENTS: Final = "the log has what happens to sessions; the admin page and the counters have the rest"
TRANSACTION: Final = (
    "a session keeps its connections between transactions, so that whatever a session may do works (SET, LISTEN, "
    "temporary tables, advisory locks, prepared statements). The servers' max_connections must allow as many "
    "connections as there are clients. Where most of them are idle, park_after: 10s has idle sessions give theirs back")


def on_server(setting: str, since: str = "") -> str:
    return (f"the server has it: {setting}{since}, by ALTER ROLE or ALTER DATABASE … SET; pgsplit passes its error on")


def pool_mode(draft: Draft, entry: Entry) -> None:
    mode = entry.value.lower()
    if mode == "session":
        draft.nothing(entry, POOL)
    elif mode == "transaction":
        draft.other(entry, TRANSACTION, loud=True)
    elif mode == "statement":
        draft.other(entry, f"transactions of several statements, which PgBouncer refused, work here; {TRANSACTION}",
                    loud=True)
    else:
        draft.wrong(entry, "is not session, transaction or statement")


def console(draft: Draft, entry: Entry) -> None:
    if not names(entry.value):
        return draft.nothing(entry, "names nobody")
    draft.values["console_database"] = "pgbouncer"      # exporters and scripts ask there
    return draft.taken(entry, entry.name, names(entry.value), "the console asks for a password or a SCRAM verifier of "
                                                              "the user list, and knows SHOW and RELOAD")


def verbose(draft: Draft, entry: Entry) -> None:
    if is_off(entry.value):
        return draft.nothing(entry, "log_level: info is the default")
    return draft.taken(entry, "log_level", "debug")


RULES: Final[dict[str, Rule]] = {
    "admin_users": console,
    "stats_users": console,
    "application_name_add_host": other("application_name stays as the client set it; the log, the page and SHOW "
                                       "CLIENTS have its address", OFF),
    "auth_hba_file": other("the servers' own pg_hba.conf decides who gets in: it sees pgsplit's address in place of "
                           "the client's, so rules by address go to a firewall", loud=True),
    "auth_ident_file": other("names of certificates are mapped to users by user_maps"),
    "auth_ldap_options": other("the server asks LDAP itself: its pg_hba.conf names the options"),
    "autodb_idle_timeout": nothing(POOL),
    "cancel_wait_timeout": nothing("a cancel goes to the server at once: it waits for no connection"),
    "client_idle_timeout": other(on_server("idle_session_timeout"), OFF),
    "client_login_timeout": taken("client_login_timeout", SECONDS),
    "client_tls_dheparams": nothing("TLS 1.2 and newer by ECDHE"),
    "client_tls13_ciphers": nothing("those of TLS 1.3 are OpenSSL's own choice"),
    "conffile": nothing("is this file"),
    "default_pool_size": other(f"{POOL}. The servers' max_connections must allow max_client_conn sessions"),
    "disable_pqexec": other("simple Query is served: it may hold several statements", OFF, loud=True),
    "dns_max_ttl": taken("dns_refresh", SECONDS),
    "dns_nxdomain_ttl": nothing("a name that does not resolve is asked for again after dns_refresh"),
    "dns_zone_check_period": nothing("names are asked for again after dns_refresh"),
    "idle_transaction_timeout": other(on_server("idle_in_transaction_session_timeout"), OFF),
    "ignore_startup_parameters": other("every parameter of a StartupMessage goes to the servers, and has its effect "
                                       "there; one that PostgreSQL does not know is refused by it", "names nothing"),
    "job_name": nothing("processes are named pgsplit, with their addresses"),
    "service_name": nothing("processes are named pgsplit, with their addresses"),
    "listen_backlog": taken("backlog", number),
    "log_connections": nothing(EVENTS),
    "log_disconnections": nothing(EVENTS),
    "log_pooler_errors": nothing(EVENTS),
    "log_stats": nothing(EVENTS),
    "logfile": other("not taken over, so that the two do not write into one file: log_file names one, else the log "
                     "goes to standard error, which systemd keeps", "logs to standard error, as pgsplit does"),
    "login_notify_message": nothing("a client gets the server's own messages at its login"),
    "max_client_conn": taken("max_connections", number, "each takes a connection to the primary, and one to a replica "
                                                        "once it reads: the servers' max_connections must allow that"),
    "max_db_client_connections": other("the server has it: ALTER DATABASE … CONNECTION LIMIT; pgsplit's own limits are "
                                       "max_connections and max_user_connections", OFF),
    "max_db_connections": other("the server has it: ALTER DATABASE … CONNECTION LIMIT, which refuses (53300) where "
                                "PgBouncer let wait", OFF),
    "max_packet_size": nothing("a message may be as long as PostgreSQL takes it"),
    "max_prepared_statements": nothing("prepared statements work without a limit, on both servers"),
    "max_user_client_connections": taken("max_user_connections", number),
    "max_user_connections": other("counted connections to a server, for which clients waited; max_user_connections "
                                  "here counts sessions, and refuses (53300): not taken over", OFF),
    "min_pool_size": nothing(POOL),
    "peer_id": other("workers of one pgsplit pass cancels on to each other; several pgsplits behind one balancer do "
                     "not: have it send a client's connections to the same one", OFF, loud=True),
    "pidfile": other("not taken over, so that the two do not write into one file: pidfile names one"),
    "pkt_buf": nothing("buffers are as large as they need to be"),
    "pool_idle_timeout": nothing(POOL),
    "pool_mode": pool_mode,
    "query_timeout": other(on_server("statement_timeout"), OFF),
    "query_wait_notify": nothing(POOL),
    "query_wait_timeout": nothing("no statement waits for a connection. failover_wait says how long one waits for the "
                                  "next primary"),
    "reserve_pool_size": nothing(POOL),
    "reserve_pool_timeout": nothing(POOL),
    "resolv_conf": other("the system's resolver is asked", "the system's resolver is asked"),
    "sbuf_loopcnt": nothing("sessions take turns by themselves"),
    "scram_iterations": nothing("verifiers are made by the server (scram_iterations there)"),
    "server_check_delay": nothing("connections are not shared, so none is checked before it is; servers are asked each "
                                  "health_interval (1s)"),
    "server_check_query": nothing("connections are not shared, so none is checked before it is; servers are asked each "
                                  "health_interval (1s)"),
    "server_connect_timeout": nothing("5 s; connect_timeout of a cluster in Envoy's form is another"),
    "server_fast_close": nothing(POOL),
    "server_idle_timeout": nothing(f"{POOL}. park_after is the nearest: a session that has been idle so long gives its "
                                   "connections back"),
    "server_lifetime": nothing(POOL),
    "server_login_retry": nothing("login_wait (3s) and failover_wait (30s) say how long is waited for a primary"),
    "server_reset_query": nothing("no two sessions share a connection, so none is cleaned"),
    "server_reset_query_always": nothing("no two sessions share a connection, so none is cleaned"),
    "server_round_robin": nothing("lb_policy says which replica a new session gets: in turn by default"),
    "server_tls13_ciphers": nothing("those of TLS 1.3 are OpenSSL's own choice"),
    "so_reuseport": nothing("workers share the sockets: workers: N, by default one a core"),
    "stats_period": nothing("counters are sampled each second"),
    "suspend_timeout": nothing("drain_time and graceful_timeout say what a restart waits for"),
    "syslog": other("the log goes to standard error, which systemd keeps, or to log_file", OFF),
    "syslog_facility": nothing("the log goes to standard error, or to log_file"),
    "syslog_ident": nothing("the log goes to standard error, or to log_file"),
    "tcp_defer_accept": nothing(SYSTEM),
    "tcp_keepalive": nothing(SYSTEM),
    "tcp_keepcnt": nothing(SYSTEM),
    "tcp_keepidle": nothing(SYSTEM),
    "tcp_keepintvl": nothing(SYSTEM),
    "tcp_socket_buffer": nothing("the system's own values hold"),
    "tcp_user_timeout": nothing("the system's own values hold"),
    "track_extra_parameters": nothing("every setting of a session is kept in step on both servers"),
    "transaction_timeout": other(on_server("transaction_timeout", " (PostgreSQL 17)"), OFF),
    "unix_socket_group": other("the socket's directory says who may reach it; pgsplit's sockets have mode 0777, and "
                               "the login decides", "the login decides who gets in"),
    "unix_socket_mode": other("pgsplit's sockets have mode 0777, and the login decides: the socket's directory may say "
                              "who reaches it"),
    "user": other("pgsplit does not change its user: start it as one (User= of a systemd unit)"),
    "verbose": verbose,
}

# Of a database's connection string, of a user's line, of a peer's: host, port and the like are read together.
OF_DATABASE: Final = {
    "pool_size": "is not a pool here", "min_pool_size": "is not a pool here", "reserve_pool": "is not a pool here",
    "reserve_pool_size": "is not a pool here", "pool_mode": "sessions keep their connections",
    "max_db_connections": "ALTER DATABASE … CONNECTION LIMIT",
    "max_db_client_connections": "ALTER DATABASE … CONNECTION LIMIT", "server_lifetime": "is not a pool here",
    "query_wait_timeout": "nothing waits for a connection", "load_balance_hosts": "lb_policy is for replicas",
    "connect_query": "ALTER DATABASE … SET on the server", "client_encoding": "ALTER DATABASE … SET on the server",
    "datestyle": "ALTER DATABASE … SET on the server", "timezone": "ALTER DATABASE … SET on the server",
    "application_name": "the client's own holds",
}
OF_USER: Final = {
    "pool_mode": "sessions keep their connections", "pool_size": "is not a pool here",
    "reserve_pool_size": "is not a pool here", "max_user_connections": "ALTER ROLE … CONNECTION LIMIT",
    "max_user_client_connections": "ALTER ROLE … CONNECTION LIMIT", "query_timeout": "ALTER ROLE … SET "
                                                                                     "statement_timeout",
    "query_wait_timeout": "nothing waits for a connection",
    "idle_transaction_timeout": "ALTER ROLE … SET idle_in_transaction_session_timeout",
    "transaction_timeout": "ALTER ROLE … SET transaction_timeout",
    "client_idle_timeout": "ALTER ROLE … SET idle_session_timeout",
}
