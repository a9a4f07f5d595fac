"""A session's rules, told as conversations: what would move, and what would keep the rest."""

from __future__ import annotations

import pytest

from pgsplit.classify.classifier import Classifier
from pgsplit.observing.session import Session
from pgsplit.stats.offload import BY_NAME

CLASSIFY = Classifier(1000, 65536)
READ = "select a from t"
WRITE = "insert into t values (1)"


def talk(*texts):
    """What each text comes to: `replica`, the group that keeps a read, or the rule of what is no read. ``!`` ahead of a
    text: it fails.
    """
    session, found = Session(), []
    for text in texts:
        run = session.run(CLASSIFY(text.lstrip("!").encode()), text.lstrip("!"))
        found += [outcome.kept or ("replica" if outcome.moves else outcome.rule) for outcome in run.outcomes]
        if text.startswith("!"):
            session.failed(last=True)
    return found


@pytest.mark.parametrize(("texts", "expected"), [
    ([READ], ["replica"]),
    ([READ, WRITE, READ], ["replica", "write", "replica"]),
    (["begin", READ, "commit"], ["begin_held", "replica", "transaction_ended"]),
    (["begin", READ, WRITE, READ, "commit", READ],
     ["begin_held", "replica", "write", "after_write", "transaction_control", "replica"]),
    (["begin", "set local x.y = '1'", "savepoint a", READ, "rollback to a", READ, "rollback"],
     ["begin_held", "sets_the_stage", "sets_the_stage", "replica", "sets_the_stage", "replica", "transaction_ended"]),
    (["begin isolation level repeatable read", READ, "commit"],
     ["transaction_control", "isolation", "transaction_control"]),
    (["begin isolation level repeatable read read only", READ], ["transaction_control", "read_only"]),
    (["begin", "set transaction isolation level serializable", READ],
     ["begin_held", "session_setting", "before_write"]),
    (["set default_transaction_isolation = 'repeatable read'", "begin", READ, "commit", "reset all", "begin", READ],
     ["session_setting", "transaction_control", "isolation", "transaction_control", "session_setting", "begin_held",
      "replica"]),
    (["begin", "select now()", READ, "commit"], ["begin_held", "clock", "clock", "transaction_control"]),
    (["begin", "select my_function()", READ], ["begin_held", "function", "function"]),
    (["begin", "show shared_buffers", READ], ["begin_held", "server_local", "server_local"]),
    (["begin", "lock table t", READ], ["begin_held", "lock", "after_write"]),
    (["begin read only", "declare c cursor for select a from t", "fetch 5 from c", "commit"],
     ["begin_held", "cursor", "replica", "transaction_ended"]),
    (["begin", "declare c cursor for select a from t", "fetch 5 from c"], ["begin_held", "cursor", "cursor"]),
    (["begin; insert into t values (1); select a from t; commit", READ],
     ["transaction_control", "write", "after_write", "transaction_control", "replica"]),
    (["select a from t; insert into t values (1)"], ["batch", "write"]),
    (["begin", f"!{READ}", READ, "rollback", READ],
     ["begin_held", "replica", "transaction_failed", "transaction_failed", "replica"]),
    (["begin", "savepoint a", f"!{READ}", READ, "rollback to a", READ],
     ["begin_held", "sets_the_stage", "replica", "transaction_failed", "transaction_failed", "replica"]),
    # prepared by SQL
    (["prepare p as select a from t", "execute p", "deallocate p", "execute p"],
     ["sql_prepared_statement", "unknown_effect", "sql_prepared_statement", "unknown_effect"]),
    # pins
    (["create temp table x (a int)", READ, "drop table x", READ], ["ddl", "pinned", "ddl", "replica"]),
    (["create temp table x (a int)", "drop table y", READ, "discard all", READ],
     ["ddl", "ddl", "pinned", "session_setting", "replica"]),
    (["begin", "create temp table x (a int) on commit drop", READ, "commit", READ],
     ["begin_held", "ddl", "after_write", "transaction_control", "replica"]),
    (["begin", "create temp table x (a int)", "rollback", READ],
     ["begin_held", "ddl", "transaction_control", "replica"]),
    (["!create temp table x (a int)", READ], ["ddl", "replica"]),
    (["listen a", "listen b", "unlisten a", READ, "unlisten *", READ],
     ["notification", "notification", "notification", "pinned", "notification", "replica"]),
    (["select pg_advisory_lock(1)", READ, "select pg_advisory_unlock(1)", READ],
     ["function", "pinned", "function", "replica"]),
    (["declare c cursor with hold for select 1", READ, "close all", READ], ["cursor", "pinned", "cursor", "replica"]),
    (["set session characteristics as transaction isolation level serializable", READ],
     ["session_setting", "pinned"]),
    (["listen a", "begin", READ, "commit"], ["notification", "transaction_control", "pinned", "transaction_control"]),
    (["select set_config('a.b', 'c', true)"], ["function"]),
    (["set session characteristics as transaction read only, isolation level repeatable read", "begin", READ],
     ["session_setting", "transaction_control", "read_only"]),
    (["select set_config('default_transaction_isolation', 'serializable', false)", READ, "discard all", READ],
     ["function", "pinned", "session_setting", "replica"]),
    (["set idle_in_transaction_session_timeout = '5s'", "begin", READ, "rollback"],
     ["session_setting", "transaction_control", "before_write", "transaction_control"]),
    (["begin", "set default_transaction_isolation to 'serializable'", "rollback", READ],
     ["begin_held", "session_setting", "transaction_control", "replica"]),
    (["/* pgsplit: primary */ select 1"], ["asked_for"]),
    ([""], ["empty_query"]),
])
def test_conversations(texts, expected):
    assert talk(*texts) == expected


def test_an_execute_is_what_was_prepared():
    session = Session()
    for text in ("prepare p as select a from t",):
        session.run(CLASSIFY(text.encode()), text)
    session.knows(b"p", CLASSIFY(b"select a from t"))
    [outcome] = session.run(CLASSIFY(b"execute p"), "execute p").outcomes
    assert outcome.moves


@pytest.mark.parametrize(("texts", "commits"), [
    ([READ], [False]), ([WRITE], [True]), (["begin", WRITE, "commit"], [False, False, True]),
    (["begin", WRITE, "rollback"], [False, False, False]), (["begin", READ, "commit"], [False, False, False]),
    (["begin; insert into t values (1); commit"], [True]), (["commit prepared 'x'"], [True])])
def test_what_others_may_see(texts, commits):
    session = Session()
    assert [session.run(CLASSIFY(text.encode()), text).commits for text in texts] == commits


def test_every_group_that_a_log_can_show_is_one_of_the_table():
    assert {"before_write", "after_write", "isolation", "read_only", "pinned", "batch"} <= BY_NAME.keys()
