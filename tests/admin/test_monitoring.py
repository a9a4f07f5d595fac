"""What Prometheus and Grafana are given in contrib/ is of metrics that a running pgsplit shows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pgsplit.demo import ports
from tests.admin.test_live import Page, connect
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "contrib/prometheus/alerts.yml"
DASHBOARD = json.loads((ROOT / "contrib/grafana/pgsplit.json").read_text())
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
MONITORING = (ROOT / "docs/monitoring.md").read_text()
TARGETS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
VARIABLES = [variable["definition"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
NOTES = [note["expr"] for note in DASHBOARD["annotations"]["list"]]
EXPRESSIONS = [*(rule["expr"] for rule in RULES), *TARGETS, *VARIABLES, *NOTES]
SELECTOR = re.compile(r"\b(pgsplit_\w+)(?:\{([^}]*)\})?")
OF_PROMETHEUS = {"instance", "job"}      # labels that it sets itself


def named() -> dict[str, set[str]]:
    """The metrics of all expressions, with the labels by which they are selected."""
    found: dict[str, set[str]] = {}
    for expression in EXPRESSIONS:
        for name, selection in SELECTOR.findall(expression):
            found.setdefault(name, set()).update(re.findall(r"(\w+) *=", selection or ""))
    return found


def shown(text: str) -> dict[str, set[str]]:
    """The metrics of *text*, those without a sample too, with their samples' labels."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        name = family.name + "_total" if family.type == "counter" else family.name
        found[name] = {label for sample in family.samples for label in sample.labels}
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
        if family.type == "histogram":
            found.setdefault(f"{name}_bucket", set())
    return found


@pytest.fixture
def page(cluster, pgsplit_server):
    admin = f"{ports.HOST}:{ports.choose()}"
    proxy = pgsplit_server(admin=admin, consistency="global",
                           pgsplit={"workers": 2, "max_connections": 50, "fence_wait": "60s"})
    with connect(cluster, proxy, "scram_user", "scram-secret") as connection:
        for statement in ("select 1", "select now()", "create temporary table here (a int)", "select * from here"):
            connection.execute(statement)
        yield Page(proxy)


def test_alerts_and_dashboard_name_what_a_running_pgsplit_shows(page):
    found = eventually(lambda: (text := page.get("/metrics")).count("pgsplit_decisions_total{") > 2 and shown(text))
    for name, labels in named().items():
        assert name in found, name
        assert not found[name] or labels - OF_PROMETHEUS <= found[name], (name, labels, found[name])


def test_limits_and_workers_have_samples(page):
    def samples():
        families = {family.name: family for family in text_string_to_metric_families(page.get("/metrics"))}
        return {name: [sample.value for sample in families[f"pgsplit_{name}"].samples] for name in (
            "workers", "workers_wanted", "config_generation", "worker_config_generation", "max_connections",
            "worker_open_fds", "worker_max_fds", "certificate_end_seconds")}

    found = eventually(lambda: (now := samples())["workers"] == [2] and now)
    assert (found["workers_wanted"], found["max_connections"]) == ([2], [50])
    assert [end > time.time() for end in found["certificate_end_seconds"]] == [True]       # that of tests/conftest.py
    assert found["worker_config_generation"] == found["config_generation"] * 2
    assert all(10 < opened < most for opened, most in
               zip(found["worker_open_fds"], found["worker_max_fds"], strict=True))


def test_each_alert_says_what_it_is_and_stands_on_the_page():
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), rule
        assert rule["annotations"].keys() == {"summary", "description"}, rule
        for path in re.findall(r"docs/[\w-]+\.md", rule["annotations"]["description"]):
            assert (ROOT / path).exists(), path
    told = re.findall(r"^\| `(Pgsplit\w+)` \| (\w+) \|", MONITORING, re.MULTILINE)
    assert told == [(rule["alert"], rule["labels"]["severity"]) for rule in RULES]


def test_panels_have_names_and_do_not_lie_upon_each_other():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] for panel in panels)
    cells = [(x, y) for panel in panels for at in [panel["gridPos"]]
             for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    rows = re.findall(r"^\| \*(.+)\* \|", MONITORING, re.MULTILINE)
    assert rows == [panel["title"] for panel in panels if panel["type"] == "row"]


def test_prometheus_takes_the_alerts_and_they_come_when_they_should(tmp_path):
    """Debian's prometheus has promtool."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not there")
    shutil.copy(ALERTS, tmp_path / "alerts_under_test.yml")
    shutil.copy(ROOT / "tests/alerts.yml", tmp_path / "tests.yml")
    for command in (["check", "rules", "alerts_under_test.yml"], ["test", "rules", "tests.yml"]):
        done = subprocess.run([promtool, *command], cwd=tmp_path, capture_output=True, text=True, timeout=60,
                              check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    queries = tmp_path / "queries.yml"
    queries.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate([*TARGETS, *NOTES])]}]}))
    done = subprocess.run([promtool, "check", "rules", queries], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
