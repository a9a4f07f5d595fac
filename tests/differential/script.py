"""Scripts: what is sent, step by step, and in which protocol's way."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pgsplit.wire import build
from tests.differential.client import bind

CORPUS = Path(__file__).parents[1] / "corpus" / "statements.jsonl.gz"
POOL = Path(__file__).with_name("pool.sql")

# What reaches beyond the session's own database, or takes long.
UNFIT = re.compile(r"tablespace|alter\s+system|reload_conf|(create|drop|alter)\s+database|checkpoint|pg_terminate|"
                   r"pg_cancel|lo_(ex|im)port|subscription|pg_sleep|switch_wal|\bto\s+'|\bfrom\s+'/|program|"
                   r"pg_stat_reset|replication_slot|logical_emit|reindex\s+(system|database)|pg_rotate|"
                   r"(create|alter|drop)\s+(role|user|group)|pg_prewarm|debug_|client_min_messages|log_", re.IGNORECASE)


Write = tuple[bytes, int]       # and how many times the server gets ready in answer to it


@dataclass(frozen=True)
class Step:
    """Statements that are sent together, in one network write or in a few that wait for each other's answers."""

    way: str
    texts: tuple[str, ...]
    seed: int = 0

    def writes(self) -> list[Write]:
        return WAYS[self.way](self.texts, random.Random(self.seed))

    def __str__(self) -> str:
        return f"[{self.way} {self.seed}] " + "\n    ".join(self.texts)


def _simple(texts: Sequence[str], _: random.Random) -> list[Write]:
    return [(build.query("; ".join(texts)), 1)]


def _executed(statement: str, text: str, dice: random.Random) -> bytes:
    values = ["1"] * max((int(number) for number in re.findall(r"\$(\d)", text)), default=0)
    rows = dice.choice((0, 0, 0, 2))
    return (bind(statement, values, binary=dice.random() < 0.2) + (build.describe() if dice.random() < 0.8 else b"")
            + build.execute(rows=rows) + (build.execute() if rows else b""))


def _extended(texts: Sequence[str], dice: random.Random) -> list[Write]:
    """By the unnamed statement; several texts in one pipeline of one Sync."""
    return [(b"".join(build.parse("", text) + (build.describe(b"S") if dice.random() < 0.3 else b"")
                      + _executed("", text, dice) for text in texts) + build.SYNC, 1)]


def _prepared(texts: Sequence[str], dice: random.Random) -> list[Write]:
    """By a named statement, executed twice, each thing with its Sync; then closed, or left to the session."""
    writes: list[Write] = []
    for text in texts:
        name = f"s{dice.randrange(6)}"
        parts = [build.close(b"S", name) + build.parse(name, text) + build.describe(b"S"),
                 _executed(name, text, dice), _executed(name, text, dice)]
        if dice.random() < 0.3:
            parts.append(build.close(b"S", name))
        parts = [part + build.SYNC for part in parts]
        writes += [(b"".join(parts), len(parts))] if dice.random() < 0.3 else [(part, 1) for part in parts]
    return writes


def _again(_: Sequence[str], dice: random.Random) -> list[Write]:
    """A named statement that may have been left by an earlier step."""
    name = f"s{dice.randrange(6)}"
    return [(build.describe(b"S", name) + bind(name, (), binary=False) + build.describe() + build.execute()
             + build.SYNC, 1)]


def _pipeline(texts: Sequence[str], dice: random.Random) -> list[Write]:
    """All at once, a Sync behind most of them, a Flush behind some."""
    data, syncs = b"", 1
    for text in texts:
        data += build.parse("", text) + _executed("", text, dice)
        if dice.random() < 0.6:
            data += build.SYNC
            syncs += 1
        elif dice.random() < 0.3:
            data += build.FLUSH
    return [(data + build.SYNC, syncs)]


WAYS = {"simple": _simple, "extended": _extended, "prepared": _prepared, "again": _again, "pipeline": _pipeline}


# What keeps a mixture from ending in an aborted transaction, as somebody who may do nothing: text -> its share of runs.
CALMING = {"rollback": 0.5, "reset session authorization; reset role": 0.3, "reset all": 0.15, "discard all": 0.05,
           "create table if not exists t (a int primary key, b text, c numeric default 1.5)": 0.3,
           "insert into t select g, 'row ' || g from generate_series(1, 30) g on conflict do nothing": 0.2}


def pool() -> list[str]:
    """The statements of pool.sql, one a line."""
    return [line.removesuffix(";") for line in POOL.read_text().splitlines() if line and not line.startswith("--")]


def mixture(seed: int, length: int) -> list[Step]:
    """*length* statements of the pool: neighbours, which belong together, and reads of any kind behind them."""
    dice = random.Random(seed)
    lines = pool()
    reads = [line for line in lines if line.startswith(("select", "table", "values", "show", "copy ("))]
    steps: list[Step] = []
    while length > 0:
        start = dice.randrange(len(lines))
        run = lines[start:start + dice.choice((1, 1, 2, 4, 8))] + dice.sample(reads, dice.choice((0, 0, 1, 3)))
        length -= len(run)
        steps += [Step("simple", (text,)) for text, share in CALMING.items() if dice.random() < share]
        way = dice.choices(list(WAYS), (10, 6, 6, 1, 4))[0]
        own_seed = dice.randrange(1 << 16)
        copies = any(re.search(r"from stdin", text) for text in run)
        if way == "again":
            steps.append(Step(way, (), own_seed))
        elif way == "pipeline" and not copies:
            steps.append(Step(way, tuple(run), own_seed))
        else:
            alone = [each for each in WAYS if each not in ("again", "pipeline")]
            mixed = dice.random() < 0.3
            steps += [Step(dice.choice(alone) if mixed else "simple" if copies and way == "pipeline" else way, (text,),
                           own_seed) for text in run]
    return steps


def corpus(seed: int) -> Iterator[tuple[str, list[Step]]]:
    """File -> its session, each statement by a way of its own; of PostgreSQL's regression suite."""
    files: dict[str, list[str]] = {}
    with gzip.open(CORPUS, "rt") as lines:
        for line in lines:
            entry = json.loads(line)
            if not UNFIT.search(entry["sql"]):
                files.setdefault(entry["source"].removeprefix("regress/").removesuffix(".sql"), []).append(entry["sql"])
    setup = [Step("simple", (text,)) for text in files.pop("test_setup", [])]
    for name, texts in files.items():
        dice = random.Random(f"{seed} {name}")
        yield name, setup + [
            Step("simple" if "stdin" in text.lower() else dice.choice(("simple", "simple", "extended", "prepared")),
                 (text,), dice.randrange(1 << 16)) for text in texts]
