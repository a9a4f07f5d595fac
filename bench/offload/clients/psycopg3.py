"""psycopg 3: its defaults (BEGIN with each first statement), autocommit, and what is told of by texts alone."""

from __future__ import annotations

import json

import psycopg

from bench.offload.clients import TENANTS, Sent, Target, requests, writes
from bench.offload.clients.texts import FORMAT as SQL


def _connect(target: Target, *, autocommit: bool = False) -> psycopg.Connection:
    return psycopg.connect(autocommit=autocommit, **target.libpq)  # type: ignore[arg-type]


def defaults(target: Target, rounds: int) -> Sent:
    with _connect(target) as connection:
        for account, write in requests(rounds):
            for text in SQL.reads:
                connection.execute(text, [account]).fetchall()
            if write:
                connection.execute(SQL.insert, [account, 5])
                connection.execute(SQL.update, [5, account])
                connection.execute(SQL.total, [account]).fetchall()
            connection.commit()
    return Sent(3 * rounds, writes(rounds))


def autocommit(target: Target, rounds: int) -> Sent:
    with _connect(target, autocommit=True) as connection:
        for account, write in requests(rounds):
            for text in SQL.reads:
                connection.execute(text, [account]).fetchall()
            if write:
                connection.execute(SQL.update, [5, account])
    return Sent(3 * rounds)


def function(target: Target, rounds: int) -> Sent:
    """A function of the user's, STABLE and in SQL."""
    with _connect(target, autocommit=True) as connection:
        for account, _ in requests(rounds):
            connection.execute("select id, balance_of(id) from account where id = %s", [account]).fetchall()
    return Sent(rounds)


def set_local(target: Target, rounds: int) -> Sent:
    with _connect(target) as connection:
        for tenant in (number % TENANTS for number in range(rounds)):
            connection.execute(f"set local app.tenant = '{tenant}'")
            _tickets(connection)
    return Sent(2 * rounds)


def set_config(target: Target, rounds: int) -> Sent:
    with _connect(target) as connection:
        for tenant in (number % TENANTS for number in range(rounds)):
            connection.execute("select set_config('app.tenant', %s, true)", [str(tenant)])
            _tickets(connection)
    return Sent(2 * rounds)


def tenants_write(target: Target, rounds: int) -> Sent:
    """As set_config, and some requests write."""
    with _connect(target) as connection:
        for number, write in requests(rounds):
            connection.execute("select set_config('app.tenant', %s, true)", [str(number % TENANTS)])
            _read_tickets(connection)
            if write:
                connection.execute("update ticket set body = %s where id = %s", [f"changed by {number}", number])
                connection.execute("select sum(length(body)) from ticket").fetchall()
            connection.commit()
    return Sent(2 * rounds, writes(rounds))


def _tickets(connection: psycopg.Connection) -> None:
    _read_tickets(connection)
    connection.commit()


def _read_tickets(connection: psycopg.Connection) -> None:
    connection.execute("select id, body from ticket order by id limit 10").fetchall()
    connection.execute("select count(*) from ticket").fetchall()


# What a function may have said of the answer: the request's own options, which a plain read leaves empty.
RESPONSE = (", nullif(current_setting('response.headers', true), '') as response_headers"
            ", nullif(current_setting('response.status', true), '') as response_status")
PGRST = ('with pgrst_source as (select "public"."ticket"."id", "public"."ticket"."body" from "public"."ticket" '
         'where "public"."ticket"."id" > %s limit %s) '
         "select null::bigint as total_result_set, pg_catalog.count(_postgrest_t) as page_total, "
         "coalesce(json_agg(_postgrest_t), '[]') as body{more} from (select * from pgrst_source) _postgrest_t")


def postgrest(target: Target, rounds: int) -> Sent:
    """The statements of PostgREST for a GET, prepared as there."""
    return _postgrest(target, rounds, PGRST.format(more=RESPONSE))


def postgrest_body(target: Target, rounds: int) -> Sent:
    """The same, without asking for the options that a function may have set."""
    return _postgrest(target, rounds, PGRST.format(more=""))


def _postgrest(target: Target, rounds: int, text: str, role: str = "web") -> Sent:
    with _connect(target, autocommit=True) as connection:
        for tenant in (number % TENANTS for number in range(rounds)):
            connection.execute("begin isolation level read committed read only")
            connection.execute(
                "select set_config('search_path', %s, true), set_config('role', %s, true), "
                "set_config('request.jwt.claims', %s, true), set_config('request.method', %s, true), "
                "set_config('app.tenant', %s, true)",
                ['"public"', role, json.dumps({"role": role, "tenant": tenant}), "GET", str(tenant)], prepare=True)
            connection.execute(text, [tenant, 20], prepare=True).fetchall()
            connection.execute("commit")
    return Sent(rounds)
