"""The forms of the report."""

from __future__ import annotations

import gzip
import json
from html.parser import HTMLParser

import pytest

from pgsplit.cli import main
from pgsplit.observing.html import html
from pgsplit.observing.report import of_tally
from pgsplit.observing.text import WIDTH, text
from pgsplit.stats.offload import KEPT
from pgsplit.stats.remedies import OF_GROUPS
from tests.observing.logs import csv_record, watched

EVIL = "<script>alert('x')</script>"


def report():
    found = watched(("1", "duration: 2.000 ms  statement: select 1", 3),
                    ("1", "duration: 1.000 ms  statement: select now()"),
                    ("1", "duration: 1.000 ms  statement: insert into t values (1)"),
                    ("1", f'duration: 4.000 ms  statement: select "{EVIL}" from t, "f{EVIL}"()'),
                    ("1", "duration: 1.000 ms  statement: select 'cut"), ("1", "error: no"))
    return of_tally(found.tally, {"log": f"{EVIL}.csv"}, upper_bound=False, notes=[f"note {EVIL}"])


def test_as_text():
    shown = text(report())
    assert "Of 5 statements replicas could answer 1 (20.0 %), with 22.2 % of the time." in shown
    assert "unknown_function: f" in shown and OF_GROUPS["clock"] in shown.replace("\n    ", " ")
    assert all(len(line) <= WIDTH for line in shown.splitlines())
    assert shown.index("* function") < shown.index("* clock")


def test_what_moves_a_cursor_is_not_printed():
    found = watched(("1", 'statement: select 1 as "a\x1b[2Jb"'))
    assert "\x1b" not in text(of_tally(found.tally, {"log": "\x1b[2J"}, upper_bound=False, notes=["\x1b"]))


def test_as_a_value():
    found = json.loads(json.dumps(report().to_dict()))
    assert [part["number"] for part in found["parts"]] == [1, 2, 1, 0, 1]
    assert found["kept"][0]["details"][0][1:] == [1, 4000]
    assert found["failed"] == 1


def test_as_html_everything_is_escaped_and_nothing_is_loaded():
    tags, names = [], []

    class Looks(HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.append(tag)
            names.extend(name for name, _ in attributes)

    page = html(report())
    Looks().feed(page)
    assert not {"script", "img", "link", "iframe"} & set(tags)
    assert not [name for name in names if name.startswith("on") or name in ("src", "href")]
    assert EVIL not in page and page.count("&lt;script&gt;") >= 4


def test_every_group_has_its_words_in_the_report():
    assert [group.name for group in KEPT if group.name not in OF_GROUPS] == []


@pytest.mark.parametrize("form", ["text", "json", "html"])
def test_the_command(tmp_path, capsys, form):
    log = tmp_path / "a.csv"
    log.write_text(csv_record("statement: select 1") + "broken\n" + csv_record("statement: select 2"))
    assert main(["observe", "--log", str(log), "--format", form]) == 0
    shown = capsys.readouterr().out
    assert f"{log}:2: no record of csvlog begins here" in " ".join(shown.split())      # lines are broken where they end
    assert main(["observe", "--log", str(log), "--format", form, "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out").read_text() == shown


def test_compressed(tmp_path, capsys):
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write(csv_record("statement: select 1"))
    assert main(["observe", "--log", str(tmp_path / "a.csv.gz")]) == 0
    assert "replicas could answer 1 " in capsys.readouterr().out


@pytest.mark.parametrize(("name", "content", "why"), [
    ("a.csv", None, "No such file or directory"), ("a.gz", b"plain", "Not a gzipped file"),
    ("b.gz", gzip.compress(csv_record("statement: select 1").encode() * 1000)[:-20], "ended before"),
    ("c.log", bytes(range(256)) * 100, "--log-line-prefix"), ("", None, "Is a directory")])
def test_a_file_that_cannot_be_used(tmp_path, capsys, name, content, why):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["observe", "--log", str(tmp_path / name)]) == 1
    complaint = capsys.readouterr().err
    assert why in complaint and "Traceback" not in complaint
