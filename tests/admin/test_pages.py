"""What the pages say and do, in front of a proxy that writes down what it is told."""

from __future__ import annotations

import json
import re
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pgsplit.stats.remedies import OF_GROUPS, REMEDIES
from tests.admin.conftest import Browser, change, host, session


def test_the_overview_says_what_is_wrong(browser, proxy):
    assert "Everything works." in browser.get("/").text
    proxy.hosts = [host(healthy=False, why_not="could not connect: refused"), proxy.hosts[1]]
    proxy.refused = ["t.yaml:3: users: is no list"]
    proxy.orders["reads_to_primary"] = ["postgres"]
    proxy.orders["apart"] = True
    time.sleep(0.5)
    page = browser.get("/overview/part").text
    assert "Replica 10.0.0.2:5432 is not used: could not connect: refused." in page
    assert "The last reload was refused; generation 3 stays in force. t.yaml:3: users: is no list" in page
    assert "all reads go to the primary, by an operator" in page
    assert "Sessions of another version still go on" in page
    assert page.index('class="problem bad"') < page.index('class="problem warning"') < page.index('problem note"')


def test_all_reads_to_the_primary_and_back(browser, proxy):
    assert "Send all reads of postgres to the primary?" in browser.get("/overview/reads/postgres").text
    assert browser.post("/overview/reads/postgres", {"to": "primary"}).status_code == 302
    assert ("order_reads", {"listener": "postgres", "to_primary": True}) in proxy.said
    assert "to replicas again?" in browser.get("/overview/reads/postgres").text
    browser.post("/overview/reads/postgres", {"to": "replicas"})
    assert ("order_reads", {"listener": "postgres", "to_primary": False}) in proxy.said
    audited = [args["deed"] for what, args in proxy.said if what == "audit_add"]
    assert audited[1:] == ["all reads of listener postgres to the primary",
                           "reads of listener postgres to replicas again"]
    assert browser.get("/overview/reads/nowhere").status_code == 404


def test_sessions_are_filtered_and_sorted(browser, proxy):
    proxy.sessions = [session(id=f"1-{number}", user=f"user{number}", state="active" if number == 2 else "idle",
                              pins={"listen": "LISTEN x"} if number == 3 else {}) for number in range(1, 5)]
    text = browser.get("/sessions/part").text
    assert text.index("1-2") < text.index("1-1")        # active ones first
    assert "4 of 4 sessions" in text
    assert "1 of 4 sessions" in browser.get("/sessions/part?filter=pin%3Dlisten").text
    assert "1 of 4 sessions" in browser.get("/sessions/part?filter=USER4+idle").text
    assert "No session matches" in browser.get("/sessions/part?filter=nobody").text
    text = browser.get("/sessions/part?sort=worker&order=desc").text
    assert text.index("1-4") < text.index("1-1")


def test_long_transactions_are_marked(browser, proxy):
    proxy.sessions = [session(state="idle in transaction", transaction_since=time.time() - 600)]
    assert 'class="long"' in browser.get("/sessions/part").text
    assert "Its transaction has been open for 10 min." in browser.get("/sessions/1-7").text


def test_cancel_and_terminate_one_or_those_of_a_filter(browser, proxy):
    assert "57014" in browser.get("/sessions/1-7/cancel").text
    browser.post("/sessions/1-7/cancel")
    browser.post("/sessions/all/terminate", {"session": ["1-7"], "filter": "app"})
    told = [(what, args) for what, args in proxy.said if what != "audit_add"]
    assert told == [("cancel_session", {"number": 7}), ("terminate", {"number": 7})]
    assert browser.get("/sessions/9-9").status_code == 404
    assert browser.get("/sessions/9-9/part").status_code == 200        # a page that was open says so
    assert browser.post("/sessions/../cancel").status_code == 404


def test_a_statement_is_tried(browser):
    page = browser.post("/routing/try", {"sql": "select a from t for update"}).text
    assert "<b>locking_clause</b>" in page and "FOR UPDATE" in page and "May write" in page
    assert "<b>listed_function</b>" in browser.post("/routing/try", {"sql": "select app.is_open(1)"}).text


def test_the_routing_page_leads_with_the_off_load(browser, proxy):
    for path in ("/routing", "/routing/offload"):
        text = " ".join(browser.get(path).text.split())
        assert "Of 100 reads <b>75.0</b> were answered by replicas (3 of 4), with <b>75.0 %</b>" in text
        assert "2.4 ms if it had run all statements, <b>1.0 ms</b> with pgsplit, 100 µs of it" in text
        assert text.index("<code>settings</code>") < text.index("<code>sample</code>")
        assert "<code>clock</code>" in text and "the server&#39;s clock decides" in text
    text = browser.get("/routing").text
    assert text.index("Off-load") < text.index("Try a statement") < text.index("Why statements went")
    assert "<b>75 %</b> of reads on replicas" in browser.get("/overview/part").text
    proxy.totals = {}
    time.sleep(0.5)
    text = browser.get("/routing/offload").text
    for words in ("No read has been answered yet", "Nothing has been asked yet", "the primary has answered no read"):
        assert words in text


def test_each_reason_says_what_to_do(browser):
    assert OF_GROUPS["clock"] in browser.get("/routing/offload").text
    assert REMEDIES["locking_clause"] in browser.post("/routing/try", {"sql": "select 1 for update"}).text
    assert "What to do" not in browser.post("/routing/try", {"sql": "select 1"}).text


def test_a_listener_that_observes_says_so(browser, proxy):
    assert "Observing" not in browser.get("/overview/part").text
    proxy.mode = "observe"
    proxy.totals = proxy.totals | {"postgres.postgres.reads.replica": 0, "postgres.postgres.reads.primary": 4,
                                   "postgres.postgres.reads_kept.observed": 3,
                                   "postgres.postgres.reads_kept_us.observed": 400}
    time.sleep(0.5)
    page = " ".join(browser.get("/overview/part").text.split())
    assert "<b>Observing:</b> all goes to the primary. Replicas would have 75 % of its reads." in page
    assert "All reads to the primary" not in page
    assert "<b>Observing:</b> 3 more (75 %" in browser.get("/routing/offload").text


def test_the_off_load_for_machines(browser):
    found = browser.get("/api/v1/routing").json["offload"]
    assert (found["reads"], found["replica"]["share"]) == (4, 0.75)
    assert [(part["name"], part["number"], part["microseconds"]) for part in found["kept"]] == [("clock", 1, 500)]
    assert [(part["name"], part["number"]) for part in found["own"]["primary"]] == [("settings", 1), ("sample", 4)]
    assert found["primary_us"] == {"without_pgsplit": 2400, "with_pgsplit": 1000}
    families = {family.name: family for family in text_string_to_metric_families(browser.get("/metrics").text)}
    assert {sample.labels["upstream"]: sample.value for sample in families["pgsplit_reads"].samples} == {
        "replica": 3, "primary": 1}
    [kept] = families["pgsplit_reads_kept_seconds"].samples
    assert (kept.labels, kept.value) == ({"listener": "postgres", "reason": "clock"}, 500 / 1e6)
    assert {(sample.labels["listener"], sample.labels["cluster"], sample.labels["kind"]): sample.value
            for sample in families["pgsplit_own_questions"].samples} == {
        ("postgres", "", "settings"): 1, ("", "primary", "sample"): 4}


def test_a_host_is_drained(browser, proxy):
    path = "/clusters/replicas/10.0.0.2:5432/drain"
    assert "Open sessions leave it with their next read" in browser.get(path).text
    browser.post(path)
    assert ("order_host", {"cluster": "replicas", "host": "10.0.0.2:5432", "order": "drain"}) in proxy.said
    assert browser.get("/clusters/replicas/nobody:1/drain").status_code == 404
    assert browser.get("/clusters/replicas/10.0.0.2:5432/explode").status_code == 404


def test_a_term_is_forgotten(browser, proxy):
    assert 'id="forget-primary"' in browser.get("/clusters").text
    assert 'id="forget-replicas"' not in browser.get("/clusters").text
    path = "/clusters/primary/forget-term"
    page = browser.get(path).text
    assert "Timeline 3 has been seen of this cluster." in page and "10.0.0.1:5432</code>: primary, timeline 1" in page
    assert not [what for what, _ in proxy.said if what == "order_forget_term"]
    assert browser.post(path).status_code == 302
    assert proxy.said[1:] == [("order_forget_term", {"cluster": "primary"}), ("audit_add", {
        "who": "admin", "deed": "forget the term of cluster primary", "where": "127.0.0.1", "result": "done"})]
    for nowhere in ("/clusters/replicas/forget-term", "/clusters/nowhere/forget-term"):
        assert browser.get(nowhere).status_code == 404 and browser.post(nowhere).status_code == 404


def test_a_user_is_previewed_saved_and_deleted(browser, proxy):
    form = {"name": "neu", "password": "hunter2", "stored": "scram", "version": "v1"}
    preview = browser.post("/users/postgres/preview", form).text
    assert "*** (new)" in preview and "hunter2" not in preview
    assert browser.post("/users/postgres/save", form).status_code == 302
    saved = [args for what, args in proxy.said if what == "users_save"]
    assert saved[0]["changes"][0]["iterations"] == 4096
    assert "hunter2" not in json.dumps([args for what, args in proxy.said if what == "audit_add"])
    browser.post("/users/postgres/save", {"name": "app", "action": "delete", "terminate": "1", "version": "v1"})
    assert ("terminate", {"number": 7}) in proxy.said


def test_a_list_that_changed_meanwhile_is_not_saved(browser):
    answer = browser.post("/users/postgres/save", {"name": "neu", "password": "hunter2", "version": "old"})
    assert answer.status_code == 409
    assert "has changed meanwhile" in answer.text and "Load it again" in answer.text and "hunter2" not in answer.text


def test_a_login_is_tested(browser, proxy):
    browser.post("/users/postgres/test", {"name": "app", "password": ""})
    assert ("test_login", {"listener": "postgres", "user": "app", "password": None}) in proxy.said


def test_two_thousand_users_on_a_page(browser, proxy, monkeypatch):
    users = [{"name": f"user{number}", "stored": "scram", "monitor": False} for number in range(2000)]
    lists = proxy._users()
    lists[0]["users"] = users
    monkeypatch.setattr(proxy, "_users", lambda: lists)
    page = browser.get("/users").text
    assert "user1999" in page and len(page) < 1_000_000
    assert browser.get("/users?filter=user1999").text.count("Change</a>") == 1


def test_it_shows_where_a_users_secret_is_from(browser, proxy):
    assert "auth_query" not in browser.get("/users").text
    proxy.asked_users = {"postgres": [{"name": "<b>", "kind": "scram"}, {"name": "anna", "kind": "md5"}]}
    page = browser.get("/users").text
    assert page.index("the list") < page.index("anna") < page.rindex("the primary (<code>auth_query</code>)")
    assert "&lt;b&gt;" in page and "<b>" not in page.replace("<b>SCRAM", "")
    assert page.count("Change</a>") == 2 and "asked for at the primary, as app" in page
    assert "anna" not in browser.get("/users?filter=app").text
    assert browser.get("/api/v1/users").get_json()["lists"][0]["asked"] == [
        {"name": "<b>", "stored": "scram"}, {"name": "anna", "stored": "md5"}]


def test_a_refused_reload_is_told(browser, proxy):
    proxy.refused = ["t.yaml:3: users: is no list"]
    answer = browser.post("/configuration/reload", follow_redirects=True)
    assert "The reload was refused; nothing has changed." in answer.text and "t.yaml:3" in answer.text


def test_the_log_and_its_levels(browser):
    assert "10.0.0.9" in browser.get("/log").text
    assert "Nothing of that level" in browser.get("/log/part?level=error").text


def test_when_pgsplit_does_not_answer(browser, proxy):
    proxy.down = True
    time.sleep(0.5)
    answer = browser.get("/sessions")
    assert answer.status_code == 503 and "no pgsplit answers" in answer.text
    assert browser.get("/readyz").status_code == 503
    assert browser.get("/healthz").status_code == 200


def test_readiness_has_its_reason(browser, proxy):
    assert browser.get("/readyz").text == "ok\n"
    proxy.hosts = [host(healthy=False, why_not="is drained"), proxy.hosts[1]]
    time.sleep(0.5)
    answer = browser.get("/readyz")
    assert answer.status_code == 503
    assert "cannot serve reads on replicas: cluster replicas: 10.0.0.2:5432 is drained" in answer.text
    assert browser.get("/readyz?level=replicas").status_code == 503
    assert browser.get("/readyz?level=writes").text == "ok\n"
    assert browser.get("/readyz?level=all").status_code == 400


def of_one_list(name, primary, **over):
    """The server's hosts in both clusters."""
    role = {"role": "primary" if primary else "standby", "name": name, "finds_roles": True}
    return [host(**role | {"other_role": primary, "why_not": "is the primary" if primary else ""} | over),
            host(**role | {"cluster": "primary", "writes": True, "other_role": not primary,
                           "why_not": "" if primary else "is a standby"} | over)]


def test_a_server_that_has_the_other_role_is_no_fault(browser, proxy):
    proxy.hosts = [*of_one_list("10.0.0.1:5432", True), *of_one_list("10.0.0.2:5432", False)]
    page = browser.get("/overview/part").text
    assert "Everything works." in page and "no primary" not in page and "no standby" not in page
    assert browser.get("/readyz").text == "ok\n"
    assert "is a standby" in browser.get("/clusters/part").text
    families = {family.name: family for family in text_string_to_metric_families(browser.get("/metrics").text)}
    assert {sample.value for sample in families["pgsplit_cluster_host_healthy"].samples} == {1}
    proxy.hosts = of_one_list("10.0.0.2:5432", False)
    time.sleep(0.5)
    page = browser.get("/overview/part").text
    assert "Cluster primary has no primary: 10.0.0.2:5432 is a standby." in page
    assert page.count("no primary") == 2 and "is not used" not in page
    answer = browser.get("/readyz")
    assert answer.status_code == 503
    assert "cannot serve writes: cluster primary: 10.0.0.2:5432 is a standby" in answer.text


def test_what_is_wrong_with_a_server_of_one_list_is_said_once(browser, proxy):
    out = {"healthy": False, "other_role": False, "why_not": "could not connect: refused", "role": "unknown"}
    former = {"healthy": False, "other_role": False, "why_not": "is a former primary", "role": "primary"}
    proxy.hosts = [*of_one_list("10.0.0.1:5432", True), *of_one_list("10.0.0.2:5432", False, **out),
                   of_one_list("10.0.0.3:5432", False, **former)[1]]
    found = browser.get("/api/v1/overview").json["problems"]
    assert [(problem["level"], problem["words"]) for problem in found] == [
        ("bad", "Server 10.0.0.3:5432 is not used: is a former primary."),
        ("warning", "Server 10.0.0.2:5432 is not used: could not connect: refused."),
        ("warning", "Listener postgres has no replica that can be used: all reads go to the primary.")]


def test_a_lag_that_is_not_known_is_not_said_to_be_none(browser, proxy):
    proxy.hosts = [host(lag_bytes=None, lag_ms=None), proxy.hosts[1]]
    time.sleep(0.5)
    assert "not known" in browser.get("/clusters/part").text and "lag not known" in browser.get("/overview/part").text
    assert browser.get("/readyz").status_code == 503 and browser.get("/readyz?level=writes").status_code == 200
    families = {family.name: family for family in text_string_to_metric_families(browser.get("/metrics").text)}
    assert [sample.labels["cluster"] for sample in families["pgsplit_cluster_host_lag_seconds"].samples] == ["primary"]


def test_envoys_stats(browser):
    assert "postgres.postgres.statements_replica: 3\n" in browser.get("/stats").text
    found = browser.get("/stats?format=json&filter=statements_").json["stats"]
    assert {"name": "postgres.postgres.statements_primary", "value": 2} in found and len(found) == 2
    assert browser.get("/stats?filter=(").status_code == 400
    assert browser.get("/stats?format=xml").status_code == 400


def test_prometheus_reads_the_metrics(browser):
    text = browser.get("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert all(family.documentation and family.type for family in families.values())
    sample = families["pgsplit_statements_replica"].samples[0]
    assert (sample.labels, sample.value) == ({"listener": "postgres"}, 3)
    assert families["pgsplit_sessions_active"].type == "gauge"
    buckets = [sample for sample in families["pgsplit_statement_duration_seconds"].samples
               if sample.name.endswith("_bucket")]
    assert buckets[-1].labels["le"] == "+Inf" and buckets[-1].value == 3
    assert [sample.value for sample in buckets] == sorted(sample.value for sample in buckets)
    assert families["pgsplit_cluster_host_lag_bytes"].samples[0].value in (0, 12)


@pytest.mark.parametrize("path", ["overview", "sessions", "sessions/1-7", "routing", "clusters", "topology",
                                  "configuration", "users", "log", "history?since=0"])
def test_the_api_shows_what_the_pages_show(browser, path):
    assert browser.get(f"/api/v1/{path}").json


def test_the_api_does_what_the_pages_do(make, proxy):
    browser = Browser(make())
    token = {"X-CSRFToken": browser.token()}

    def post(path, body=None):
        return browser.client.post(f"/api/v1/{path}", json=body or {}, base_url=browser.base, headers=token)

    assert post("explain", {"sql": "select 1"}).json["upstream"] == "replica"
    assert post("sessions/1-7/terminate").json == {"done": True}
    assert post("clusters/replicas/10.0.0.2:5432/maintenance").status_code == 200
    assert post("clusters/primary/forget-term").json == {"done": True}
    assert post("clusters/replicas/forget-term").status_code == 404
    assert post("listeners/postgres/reads", {"to": "primary"}).status_code == 200
    assert post("listeners/nowhere/reads", {"to": "primary"}).status_code == 404
    assert post("reload").json["ok"] is True
    change = {"name": "neu", "password": "x", "stored": "clear"}
    assert post("users", {"listener": "postgres", "version": "v1", "changes": [change]}).json["ok"] is True
    assert post("users", {"listener": "postgres", "version": "v0", "changes": [change]}).status_code == 409
    assert post("routing/forget").json == {"done": True}


def test_the_clocks_of_standbys_are_shown(browser, proxy):
    assert "-0.25 ± 0.12 ms" in browser.get("/clusters/part").text
    families = {family.name: family for family in text_string_to_metric_families(browser.get("/metrics").text)}
    assert families["pgsplit_cluster_host_clock_offset_seconds"].samples[0].value == -0.00025
    assert families["pgsplit_cluster_host_clock_offset_error_seconds"].samples[0].value == 0.000125
    proxy.hosts = [host(clock_offset_ms=None, clock_bound_ms=None), proxy.hosts[1]]
    time.sleep(0.5)
    assert "± " not in browser.get("/clusters/part").text


def cells(page, row):
    """Of the *row*th row behind the table's head, the text of each cell."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", page, re.DOTALL)[row]
    return [" ".join(re.sub(r"<[^>]+>", "", cell).split()) for cell in re.findall(r"<td[^>]*>(.*?)</td>", rows,
                                                                                 re.DOTALL)]


def test_the_topology_says_who_is_the_primary_and_what_its_last_change_has_cost(browser, proxy):
    proxy.hosts = [*of_one_list("10.0.0.1:5432", True, timeline=3), *of_one_list("10.0.0.2:5432", False, timeline=3),
                   of_one_list("10.0.0.3:5432", False, role="primary", other_role=False, healthy=False, timeline=2,
                               why_not="is a former primary", note="<b>see to it</b>")[1]]
    page = browser.get("/topology").text
    assert 'hx-get="/topology/part"' in page and 'aria-current="page">Topology' in page
    page = browser.get("/topology/part").text
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    assert facts["Primary"] == "<code>10.0.0.1:5432</code>" and "for 1 min" in facts["Since"]
    assert facts["By whose word"].startswith("Patroni&#39;s, beside the servers&#39; own")
    assert facts["Term"] == "timeline 3 of system <code>7001</code>" and facts["Greatest timeline seen"] == "3"
    assert cells(page, 1)[:6] == ["10.0.0.1:5432", "primary", "3", "–", "–", "used for writes"]
    assert cells(page, 2)[:6] == ["10.0.0.2:5432", "standby", "3", "12 B · 500 µs", "-0.25 ± 0.12 ms", "used for reads"]
    assert cells(page, 3)[:6] == ["10.0.0.3:5432", "out of recovery", "2", "–", "–",
                                  "is a former primary &lt;b&gt;see to it&lt;/b&gt;"]
    assert cells(page, 5)[1:] == ["primary", "10.0.0.2:5432 timeline 2", "10.0.0.1:5432 timeline 3", "patroni",
                                  "2.5 s", "40", "3", "2.8 s"]
    assert "<script" not in page and "style=" not in page
    found = browser.get("/api/v1/topology").json
    assert found["clusters"][0]["primary"]["server"] == "10.0.0.1:5432" and found["clusters"][0]["timeline"] == 3
    assert [server["role"] for server in found["clusters"][0]["servers"]] == ["primary", "standby", "out of recovery"]
    assert found["changes"][0]["kept"] == 40


def test_the_topology_says_that_there_is_no_primary(browser, proxy):
    proxy.primaries[0]["lost_s"] = 3.5
    proxy.changes = [change(server="10.0.0.1:5432", from_server="10.0.0.1:5432", from_timeline=3)]
    page = browser.get("/topology/part").text
    assert "No primary for 3.5 s. The last one is below." in page and "restarted" in page
    proxy.primaries, proxy.changes = [], []
    time.sleep(0.5)
    page = browser.get("/topology/part").text
    assert "No primary has been found yet." in page and "None since the workers were started." in page
    families = {family.name: family for family in text_string_to_metric_families(browser.get("/metrics").text)}
    assert families["pgsplit_primary_since_seconds"].samples == []


def test_the_changes_of_the_primary_are_metrics(browser, proxy):
    def sample(name):
        [found] = families[name].samples
        return found.labels, found.value

    proxy.changes = [change(kept=1, at=2000.0), change(kept=40)]
    families = {family.name: family for family in text_string_to_metric_families(browser.get("/metrics").text)}
    assert sample("pgsplit_primary_changes") == ({"cluster": "primary"}, 1)
    assert sample("pgsplit_primary_since_seconds") == (
        {"cluster": "primary", "server": "10.0.0.1:5432", "by": "patroni"}, proxy.primaries[0]["at"])
    assert sample("pgsplit_primary_away") == ({"cluster": "primary"}, 0)
    assert sample("pgsplit_primary_last_change_sessions_kept") == ({"cluster": "primary"}, 40)
    assert sample("pgsplit_primary_last_change_gap_seconds")[1] == 2.5
