"""What the documentation says exists: its links, commands, flags, signals and counters."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from pgsplit.classify.rules import REASKED, RULES
from pgsplit.cli import COMMANDS
from pgsplit.config.model import Config
from pgsplit.process import arbiter
from pgsplit.stats import counters
from pgsplit.stats.offload import KEPT, REPLICA_ERROR
from pgsplit.stats.own import KINDS
from pgsplit.stats.remedies import OF_GROUPS, REMEDIES
from pgsplit.topology.host import Host

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md",
         ROOT / "bench/RESULTS.md", *sorted(ROOT.glob("docs/**/*.md"))]
OPERATIONS = (ROOT / "docs/operations.md").read_text()
README = (ROOT / "README.md").read_text()
GUARANTEES = (ROOT / "docs/guarantees.md").read_text()


def options(command: str) -> set[str]:
    """The options that ``app.py command`` takes."""
    parser = argparse.ArgumentParser()
    import_module(next(c.module for c in COMMANDS if c.name == command)).add_arguments(parser)
    return {option for action in parser._actions for option in action.option_strings}


def prose(page: Path) -> str:
    """Without what stands in fences, where `#` begins a comment and `](` is no link."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[tuple[str, str]]:
    """(target, anchor) of those that lead into the checkout; either may be empty."""
    found = re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", prose(page))
    return [(target, anchor) for target, anchor in found if not re.match(r"\w+:", target)]


def counters_table(entries: tuple[counters.Counter, ...]) -> str:
    rows = (f"| `{entry.name}`{' (gauge)' if entry.gauge else ''} | {entry.help} |" for entry in entries)
    return "\n".join(["| name | meaning |", "|---|---|", *rows])


def rules_table() -> str:
    entries = (f"| `{rule.name}` | {rule.upstream} | {rule.words} |" for rule in (*RULES.values(), REASKED))
    return "\n".join(["| name | upstream | meaning |", "|---|---|---|", *entries])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, _ in links(page):
        assert not target or (page.parent / target).resolve().exists(), target
        assert (page.parent / target).resolve().is_relative_to(ROOT), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_anchors_lead_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        if anchor:
            assert anchor in anchors(page.parent / target if target else page), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_have_heads(page: Path) -> None:
    """Rows behind an empty line are text with bars in it."""
    begins = re.findall(r"(?<!\|\n)^\|.*\n(.*)$", prose(page), re.MULTILINE)
    assert all(re.fullmatch(r"\|( ?-+ ?\|)+", second) for second in begins), begins


def test_every_page_has_its_place_on_the_site() -> None:
    text = (ROOT / "docs/site/mkdocs.yml").read_text()
    named = re.findall(r"^ +- (?:[^:\n]+: )?(\S+\.md)$", text[text.index("\nnav:"):], re.MULTILINE)
    assert sorted(named) == sorted(str(page.relative_to(ROOT)) for page in PAGES)


def test_what_pages_name_is_staged_beside_them(tmp_path: Path) -> None:
    """As it lies here; but no page of the site leads to a directory."""
    subprocess.run([sys.executable, ROOT / "docs/site/stage.py", tmp_path], check=True)
    staged = [tmp_path / page.relative_to(ROOT) for page in PAGES]
    assert [(page, target) for page in staged for target, _ in links(page)
            if target and not (page.parent / target).is_file()] == []
    assert all("](docs/)" not in page.read_text() for page in staged)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_their_options_exist(page: Path) -> None:
    text = page.read_text()
    usage = subprocess.run([ROOT / "run", "help"], capture_output=True, text=True, check=True).stdout
    known = {*re.findall(r"^  (\w+) ", usage, re.MULTILINE)}
    assert set(re.findall(r"\./run (\w+)", text)) <= known
    for command, rest in re.findall(r"(?:app\.py|[`/]pgsplit|-m pgsplit) ([a-z][a-z-]*)([^`\n#]*)", text):
        assert command in {c.name for c in COMMANDS}, command
        assert set(re.findall(r"(?<=\s)--?[a-z][\w-]*", rest)) <= options(command), rest


@pytest.mark.parametrize("name", re.findall(r"`\./run bench (\w+)", README))
def test_benches_exist(name: str) -> None:
    assert (ROOT / "bench" / f"{name}.py").exists()


def test_every_option_of_serve_is_told() -> None:
    told = {option for cell in re.findall(r"^\| (`-.*?) \|", OPERATIONS, re.MULTILINE)
            for option in re.findall(r"--?[a-z][\w-]*", cell)}
    assert told == options("serve") - {"-h", "--help"}


@pytest.mark.parametrize("text", [README, OPERATIONS], ids=["README", "operations"])
def test_every_signal_is_told(text: str) -> None:
    for name in set(arbiter.SIGNALS) - {"CHLD"}:
        assert f"`{name}`" in text, name


def test_counters_are_those_of_the_table() -> None:
    _, shown, _ = re.split(r"<!-- /?counters -->\n", OPERATIONS)
    assert shown.strip() == counters_table(counters.ALL)
    for name in Host("c", ("h", 1)).counters():
        assert f"| `{name}`" in OPERATIONS, name


def test_rules_are_those_of_the_table() -> None:
    _, shown, _ = re.split(r"<!-- /?rules -->\n", (ROOT / "docs/routing.md").read_text())
    assert shown.strip() == rules_table()


def test_remedies_are_those_of_the_table() -> None:
    page = (ROOT / "docs/observing.md").read_text()
    for name, head, rows in (
            ("remedies", "rule", ((f"{rule}<SQLSTATE>" if rule == REPLICA_ERROR else rule, words)
                                  for rule, words in REMEDIES.items())),
            ("remedies of groups", "reads are kept by", ((group.name, OF_GROUPS[group.name]) for group in KEPT))):
        _, shown, _ = re.split(rf"<!-- /?{name} -->\n", page)
        lines = (f"| `{rule}` | {words} |" for rule, words in rows)
        assert shown.strip() == "\n".join([f"| {head} | what to do |", "|---|---|", *lines])


def test_what_keeps_reads_is_that_of_the_table() -> None:
    _, shown, _ = re.split(r"<!-- /?kept -->\n", (ROOT / "docs/routing.md").read_text())
    rows = (f"| `{group.name}` | {group.words} |" for group in KEPT)
    assert shown.strip() == "\n".join(["| name | what keeps the read |", "|---|---|", *rows])


def test_own_questions_are_those_of_the_table() -> None:
    _, shown, _ = re.split(r"<!-- /?own -->\n", OPERATIONS)
    rows = (f"| `{kind.name}` | {kind.words} |" for kind in KINDS)
    assert shown.strip() == "\n".join(["| kind | what is asked |", "|---|---|", *rows])


def test_loggers_exist() -> None:
    source = "".join(path.read_text() for path in ROOT.glob("pgsplit/**/*.py"))
    used = set(re.findall(r"log\.get\(\"([\w.]+)\"\)", source))
    assert set(re.findall(r"`(pgsplit\.\w+)`", OPERATIONS)) == used


def test_guarantees_name_tests_that_exist() -> None:
    rows = re.findall(r"^\| \*\*(G\d) .*\|([^|]*)\|$", GUARANTEES, re.MULTILINE)
    assert [name for name, _ in rows] == [f"G{number}" for number in range(1, 9)]
    for name, tests in rows:
        paths = re.findall(r"`([^`]+)`", tests)
        assert paths, name
        for path in paths:
            assert (ROOT / path).exists(), path
    for number in range(1, 9):
        assert f"| G{number} " in README


def base() -> dict[str, Any]:
    """The README's first configuration, with secrets and files that exist."""
    [text] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    configuration: dict[str, Any] = yaml.safe_load(text)
    assert configuration.pop("tls").keys() == {"certificate", "key"}
    configuration["users"]["report"] = "md5" + "0" * 32
    return configuration


def loaded(configuration: dict[str, Any], directory: Path) -> Config:
    """As the loader takes it."""
    from pgsplit.process import files

    file = directory / "pgsplit.yaml"
    file.write_text(yaml.safe_dump(configuration))
    file.chmod(0o600)
    return files.load_config(str(file), 1, {}).config


def test_first_configuration_is_a_good_one(tmp_path: Path) -> None:
    assert [listener.consistency for listener in loaded(base(), tmp_path).listeners] == ["global"]


def test_examples_of_consistency_are_good_ones(tmp_path: Path) -> None:
    page = (ROOT / "docs/choosing-consistency.md").read_text()
    examples = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    taken = [loaded(base() | example, tmp_path).listeners[0].consistency for example in examples]
    assert taken == [example.get("consistency", "global") for example in examples] == ["global", "cluster", "bounded"]
