"""The SQL console, as psql and an exporter of PgBouncer's use it."""

from __future__ import annotations

import psycopg
import pytest

from tests.waiting import eventually

# Columns that PgBouncer 1.2x has (doc/usage.md): exporters look for them by name.
POOLS = ["database", "user", "cl_active", "cl_waiting", "cl_active_cancel_req", "cl_waiting_cancel_req", "sv_active",
         "sv_active_cancel", "sv_being_canceled", "sv_idle", "sv_used", "sv_tested", "sv_login", "maxwait",
         "maxwait_us", "pool_mode", "load_balance_hosts"]
MEASURES = ["xact_count", "query_count", "server_assignment_count", "{}", "sent", "xact_time", "query_time",
            "wait_time", "client_parse_count", "server_parse_count", "bind_count", "client_login_count"]


@pytest.fixture
def proxy(pgsplit_server):
    return pgsplit_server(pgsplit={"workers": 2, "admin_users": "scram_user", "stats_users": "password_user"})


@pytest.fixture
def console(cluster, proxy):
    with console_of(cluster, proxy) as connection:
        yield connection


def console_of(cluster, proxy, user="scram_user", **arguments):
    return cluster.primary.connect(user, **{"port": proxy.port, "dbname": "pgsplit", "autocommit": True} | arguments)


def show(connection, name):
    """By the simple protocol: rows as dicts."""
    result = connection.pgconn.exec_(f"SHOW {name};".encode())
    assert result.status == psycopg.pq.ExecStatus.TUPLES_OK, result.error_message
    names = [result.fname(column).decode() for column in range(result.nfields)]
    return [{name: result.get_value(row, column).decode() for column, name in enumerate(names)}
            for row in range(result.ntuples)]


def test_a_server_s_row_has_that_server_s_process_and_tls(cluster, pgsplit_server):
    proxy = pgsplit_server(pgsplit={"workers": 2, "admin_users": "scram_user"})
    with (console_of(cluster, proxy, sslmode="disable") as console,
          cluster.primary.connect("md5_user", port=proxy.port, autocommit=True, sslmode="disable") as client):
        eventually(lambda: (client.execute("select 1"), len(show(console, "servers")) == 2)[1])
        processes = {}
        for server in (cluster.primary, cluster.standbys[0]):
            [(pid,)] = server.query("select pid from pg_stat_activity where usename = 'md5_user'")
            processes[str(server.port)] = str(pid)
        servers = show(console, "servers")
        assert {row["port"]: row["remote_pid"] for row in servers} == processes
        assert processes[str(cluster.primary.port)] == str(client.info.backend_pid)
        assert {row["tls"] for row in servers} == {"TLS"}
        assert [(row["remote_pid"], row["tls"]) for row in show(console, "clients")] == [("0", "")]


def test_every_table(cluster, proxy, console):
    with (cluster.primary.connect("md5_user", port=proxy.port, autocommit=True, application_name="shown") as one,
          cluster.primary.connect("md5_user", port=proxy.port, autocommit=True) as two):
        for client in (one, two):
            client.execute("select 1")
        [pool] = show(console, "pools")
        assert list(pool) == POOLS
        assert (pool["user"], pool["cl_active"], pool["pool_mode"]) == ("md5_user", "2", "session")
        clients = show(console, "CLIENTS")
        assert {client["application_name"] for client in clients} == {"shown", ""}
        assert len(show(console, "servers")) >= 2
        assert {row["name"] for row in show(console, "databases")} == {"primary", "replicas"}
        assert "md5_user" in {row["name"] for row in show(console, "users")}
        assert {row["list"]: row["items"] for row in show(console, "lists")}["used_clients"] == "2"
    [stats] = show(console, "stats")
    assert list(stats) == ["database", *(f"total_{name.format('received')}" for name in MEASURES),
                           *(f"avg_{name.format('recv')}" for name in MEASURES)]
    eventually(lambda: int(show(console, "stats")[0]["total_query_count"]) >= 2)
    assert int(show(console, "stats")[0]["total_received"]) > 0
    assert show(console, "version")[0]["version"].startswith("pgsplit ")
    assert {row["key"] for row in show(console, "config")} >= {"workers", "admin_users"}
    assert {row["reason"] for row in show(console, "routes")}

    def offload() -> dict[tuple[str, str], dict[str, str]]:
        return {(row["of"], row["name"]): row for row in show(console, "offload")}

    eventually(lambda: ("own_replica", "health") in offload())      # what the monitor has asked it tells once a second
    rows = offload()
    assert int(rows["reads", "all"]["count"]) >= int(rows["reads", "replica"]["count"])
    kept = [row for (of, _), row in rows.items() if of == "kept"]
    assert sum(int(row["count"]) for row in kept) == (
        int(rows["reads", "all"]["count"]) - int(rows["reads", "replica"]["count"]))
    assert int(rows["own_primary", "identity"]["count"]) > 0 and rows["own_replica", "health"]["words"]
    assert int(rows["primary", "with_pgsplit"]["time_us"]) > 0
    assert {row["role"] for row in show(console, "hosts")} == {"primary", "standby"}
    primary, standby = show(console, "topology")
    assert (primary["server"], primary["role"], primary["by"]) == (cluster.primary.address, "primary", "servers")
    assert primary["primary_since"].endswith(" UTC") and primary["system_identifier"].isdecimal()
    assert (standby["server"], standby["role"], standby["primary_since"]) == (
        cluster.standbys[0].address, "standby", "")
    assert (primary["cluster"], primary["timeline"]) == ("primary", standby["timeline"])
    assert show(console, "primary_changes") == []


def test_reload_is_for_admins(cluster, proxy, console):
    generation = proxy.client.arbiter("last_reload")["generation"]
    assert console.pgconn.exec_(b"reload").command_status == b"RELOAD"
    eventually(lambda: proxy.client.arbiter("last_reload")["generation"] > generation)
    with console_of(cluster, proxy, "password_user") as viewer:
        assert show(viewer, "version")
        assert b"admin_users" in viewer.pgconn.exec_(b"RELOAD").error_message


def test_forget_term_is_for_admins_and_for_clusters_that_are_written_to(cluster, proxy, console):
    for text in (b"forget term primary", b'FORGET TERM "primary";'):
        assert console.pgconn.exec_(text).command_status == b"FORGET TERM"
    eventually(lambda: proxy.client.arbiter("about")["orders"]["forgotten"] == {"primary": 2})
    eventually(lambda: [line["what"] for line in proxy.client.arbiter("audit")] == [
        "forget the term of cluster primary"] * 2)
    assert {(line["who"], line["from"]) for line in proxy.client.arbiter("audit")} == {("scram_user", "the console")}
    result = console.pgconn.exec_(b"forget term replicas")
    assert b"there is no cluster 'replicas' that is written to; there are primary" in result.error_message
    with console_of(cluster, proxy, "password_user") as viewer:
        assert b"admin_users" in viewer.pgconn.exec_(b"forget term primary").error_message
    assert proxy.client.arbiter("about")["orders"]["forgotten"] == {"primary": 2}


def test_mistakes_are_errors_and_the_console_goes_on(console):
    for text in (b"show nothing", b"select 1", b"show pools; show pools", b"drop table x", b"forget term",
                 b"forget term a b"):
        assert b"does not know" in console.pgconn.exec_(text).error_message
    assert b"simple protocol only" in console.pgconn.exec_params(b"show pools", []).error_message
    assert console.pgconn.exec_(b"").status == psycopg.pq.ExecStatus.EMPTY_QUERY
    assert show(console, "version")


def test_nobody_else_gets_in(cluster, proxy):
    for user, arguments in (("md5_user", {}), ("scram_user", {"password": "wrong"})):
        with pytest.raises(psycopg.OperationalError, match=r"may not use the console|password authentication failed"):
            console_of(cluster, proxy, user, **arguments)


def test_without_users_of_it_the_name_is_a_database_s(cluster, pgsplit_server):
    proxy = pgsplit_server()
    with pytest.raises(psycopg.OperationalError, match='database "pgsplit" does not exist'):
        console_of(cluster, proxy)
