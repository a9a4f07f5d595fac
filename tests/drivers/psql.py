"""psql: a step is a text for its standard input, or a function where more than one session takes part."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from pgsplit.demo import installation
from tests.drivers import statements
from tests.drivers.record import Connect, Driver, Script, Target, short
from tests.waiting import eventually

script = Script()
PROGRAM = str(installation.find().program("psql"))


class Psql:
    """A psql with VERBOSITY verbose, that says after each text what it thinks of the transaction."""

    def __init__(self, target: Target, *arguments: str, options: str = "") -> None:
        sslmode = "require" if target.tls else "disable"
        environment = {
            "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PGPASSWORD": target.password, "PGSSLMODE": sslmode,
            "PGHOST": target.host, "PGPORT": str(target.port), "PGUSER": target.user, "PGDATABASE": target.dbname,
            "PGOPTIONS": options, "PGCONNECT_TIMEOUT": "10"}
        self.process = subprocess.Popen(
            [PROGRAM, "-X", "-a", "-v", "VERBOSITY=verbose", "-v", "SHOW_CONTEXT=always", *arguments], env=environment,
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self.process.stdin is not None
        self.write = self.process.stdin
        self.said: str | None = None

    def finish(self, text: str = "") -> tuple[int, str]:
        """The exit code, and all that was printed; answers of psql's pipes are in the order of the server's."""
        assert self.process.stdout is not None
        overdue = threading.Timer(60, self.process.kill)
        overdue.start()
        self.write.write(text)
        self.write.close()
        self.said = self.process.stdout.read()
        overdue.cancel()
        return self.process.wait(60), self.said

    def until(self, word: str) -> str:
        """The output's lines up to one with *word*."""
        assert self.process.stdout is not None
        self.write.flush()
        overdue = threading.Timer(60, self.process.kill)
        overdue.start()
        found = ""
        while word not in found:
            line = self.process.stdout.readline()
            assert line, f"no {word!r} in {found!r}"
            found += line
        overdue.cancel()
        return found

    def close(self) -> None:
        if self.said is None:
            self.finish()


driver = Driver(script, Psql, lambda psql: psql.process.returncode, Psql.close, repr)


def run(connect: Connect, text: str, *arguments: str, **keywords: Any) -> tuple[int, str]:
    with connect(**keywords) if not arguments else opened(connect, *arguments) as psql:
        return psql.finish(text)


@contextlib.contextmanager
def opened(connect: Connect, *arguments: str) -> Iterator[Psql]:
    psql = Psql(connect.target, *arguments)
    try:
        yield psql
    finally:
        psql.close()


def one_a_line(texts: list[str]) -> str:
    r"""Each text as one Query (``\;`` joins), and the error behind it."""
    return "".join(text.replace("; ", r"\; ").rstrip(";") + ";\n\\echo :SQLSTATE :ROW_COUNT :LAST_ERROR_MESSAGE\n"
                   for text in texts)


TEXTS = {
    "values": one_a_line([f"select {value} as v" for value in statements.VALUES]),
    "several": one_a_line(statements.SEVERAL),
    "settings": one_a_line(statements.SETTINGS),
    "transactions": one_a_line(statements.TRANSACTIONS),
    "temporary": one_a_line(statements.TEMPORARY),
    "locks": one_a_line(statements.LOCKS),
    "sequences": one_a_line(statements.SEQUENCES),
    "notices": "".join(text + ";\n" for text in statements.NOTICES),
    "prepared": one_a_line(statements.PREPARED),
    "cursors": one_a_line(statements.CURSORS),
    "errors": "".join(text + ";\nselect 1;\nrollback;\ndiscard all;\n" for text in statements.ERRORS.values()),
    "bind": "create table b (a int);\ninsert into b values ($1) \\bind 1 \\g\nselect a, $1 from b \\bind x \\g\n",
    "nulls_and_formats": "\\pset null NULL\nselect null, '' \\gx\n\\a\n\\t\ntable pg_am;\n\\pset format csv\nvalues (1,'a,b');\n",
    "copy_in": "create table c (a int, b text);\ncopy c from stdin;\n1\tx\n2\t\\N\n\\.\ncopy c from stdin (format csv);\n3,\"y,z\"\n\\.\n"
               "\\copy c (b) from program 'seq 1 20000'\nselect count(*), sum(a), max(b) from c;\n",
    "copy_in_broken": "create table d (a int);\ncopy d from stdin;\n1\nx\n3\n\\.\nselect count(*) from d;\n"
                      "\\copy d from program 'seq 1 50000; echo x; seq 1 50000'\nselect count(*) from d;\ncopy nothing from stdin;\nselect 1;\n"
                      "begin;\n\\copy d from program 'echo x'\nselect 1;\nrollback;\n",
    "copy_out": "copy (select g, null from generate_series(1, 5) g) to stdout;\n\\copy (select 1) to stdout csv header\n"
                "copy (select 1 / (3000 - g) from generate_series(1, 5000) g) to stdout;\nselect 1;\ncopy nothing to stdout;\n"
                "copy pg_am to '/nowhere/x';\ncopy (select 1) to stdout (format binary);\n",
    "fetch_count": "\\set FETCH_COUNT 100\nselect g from generate_series(1, 1000) g;\nselect 1 / (500 - g) from generate_series(1, 1000) g;\n",
    "autocommit_off": "\\set AUTOCOMMIT off\n\\set ON_ERROR_ROLLBACK on\ncreate table ao (a int);\ninsert into ao values (1);\nselect nothing;\n"
                      "insert into ao values (2);\ncommit;\nselect * from ao;\nrollback;\n",
    "describe": "create table dt (id serial primary key, b text not null default 'x', check (b > ''));\ncomment on table dt is 'c';\n"
                "create index di on dt (b);\ncreate view dv as select * from dt;\n\\d\n\\d dt\n\\d+ dv\n\\dt\n\\di\n\\ds\n\\df abs\n\\dn\n\\du driver_tenant\n"
                "\\l drivers\n\\dp dt\n\\sv dv\n",
    "gexec_and_gset": "select 'select ' || g from generate_series(1, 3) g \\gexec\nselect 5 as five \\gset\nselect :five + 1;\n"
                      "select 1 as a \\gdesc\ncreate table ge (a int) \\g\nselect 'insert into ge values (1)' from generate_series(1,3) \\gexec\n"
                      "select count(*) from ge;\n",
    "variables": "\\echo :SERVER_VERSION_NUM :ENCODING :USER :DBNAME :HOST\n\\encoding latin1\nshow client_encoding;\n\\encoding\n"
                 "set client_encoding = utf8;\n\\encoding\n\\set\n",
    "conninfo": "\\conninfo\n",
    "status_in_prompt": "select pg_backend_pid() as pid \\gset\nselect :pid = pg_backend_pid() as same;\n\\c\nselect :pid = pg_backend_pid() as same;\n"
                        "\\c nothing\nselect 1;\n",
    "large_objects": "\\lo_import /etc/hostname 'a comment'\nselect :LASTOID > 0 as imported;\nselect length(lo_get(:LASTOID)) > 0 as read;\n"
                     "\\lo_export :LASTOID /dev/null\n\\lo_unlink :LASTOID\nselect count(*) from pg_largeobject where loid = :LASTOID;\n",
    "syntax_error_position": "select 1,\n  2 +,\n  3;\nselect nothing\nfrom pg_class;\n",
    "watch_free_explain": "explain (costs off) select * from pg_am where amname = 'x';\nexplain (costs off, verbose) delete from pg_am;\n"
                          "explain select;\nexplain (analyze, costs off, timing off, summary off) select 1;\n",
    "nested_comments": "/* a /* nested */ comment */ select 1; -- and ; more\nselect $x$ ; $$ ' $x$, E'\\'', U&'\\0041', 'a' -- c\n 'b';\n",
    "many_rows": "select g, repeat('x', g % 100) from generate_series(1, 100000) g;\nselect length(repeat('y', 3000000));\nselect repeat('z', 3000000);\n",
    "statement_timeout": "set statement_timeout = 100;\nselect pg_sleep(30);\nselect 1;\n",
    "startup_from_environment": "show timezone;\nshow work_mem;\nreset all;\nshow timezone;\n",
    "terminated": "select pg_terminate_backend(pg_backend_pid());\nselect 1;\n",
}
OPTIONS = {"startup_from_environment": "-c timezone=Asia/Tokyo -c work_mem=5MB"}

for _name, _text in TEXTS.items():
    script[_name] = lambda connect, name=_name, text=_text: without_oids(
        run(connect, text, **({"options": OPTIONS[name]} if name in OPTIONS else {})))


def without_oids(outcome: tuple[int, str]) -> tuple[int, str]:
    return outcome[0], short(re.sub(r"(lo_\w+ |LASTOID = ')\d+", r"\1#", outcome[1]))


@script
def row_security(connect):
    return run(connect, one_a_line([text.format(schema=connect.target.user) for text in statements.ROW_SECURITY]))


@script
def single_transaction(connect):
    return [run(connect, "create table st (a int);\ninsert into st values (1);\nselect 1 / 0;\n", "-1", "-v", "ON_ERROR_STOP=1"),
            run(connect, "select * from st;\n"), run(connect, "create table st (a int);\n", "-1"), run(connect, "select * from st;\n")]


@script
def commands_and_files(connect):
    return [run(connect, "", "-c", "select 1; select 2", "-c", "create table cf (a int)", "-c", "\\dt cf", "-At"),
            run(connect, "", "-c", "insert into cf values (1); select 1 / 0; select 3"), run(connect, "table cf;\n", "-At"),
            run(connect, "", "-l", "-At"), run(connect, "", "-c", "select 1", "nothing")]


@script
def listen_and_notify(connect):
    with connect() as listening:
        listening.write.write("listen psql_chan;\n\\warn listens\n")
        listening.until("\nlistens\n")
        sent = run(connect, "notify psql_chan, 'hello';\nselect pg_notify('psql_chan', 'again');\n")
        return sent, re.sub(r"PID \d+", "PID #", listening.finish("select 1;\n")[1])


@script
def interrupted(connect):
    """Control-C: psql sends a CancelRequest. On the primary, where another session sees that the statement runs."""
    with connect() as psql:
        psql.write.write("select pg_sleep(60), pg_advisory_lock(7);\n\\echo interrupted\nselect 1;\n")
        psql.write.flush()
        eventually(lambda: ran(psql, connect.target) and psql.process.send_signal(signal.SIGINT) is None)
        return psql.finish()


def ran(psql: Psql, target: Target) -> bool:
    with opened(Connect(driver, target), "-At") as other:
        return "active" in other.finish("select state from pg_stat_activity where query like 'select pg_sleep(60%' "
                                        "and application_name = 'psql' and pid <> pg_backend_pid();\n")[1].splitlines()


@script
def login_refused(connect):
    return [words.rpartition("failed: ")[2] for words in (
        Psql(Target(connect.target.port, connect.target.user, password, connect.target.tls, dbname), options=options).finish()[1]
        for password, dbname, options in (("wrong", "drivers", ""), (connect.target.password, "nothing", ""),
                                          (connect.target.password, "drivers", "-c nothing=1")))]
