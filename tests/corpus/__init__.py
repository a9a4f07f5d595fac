"""The statements that PostgreSQL 15's regression suite sends, labelled by executing them.

One JSON object a line: `sql`; `ctx` (idle, tx, aborted); `truth` (write, read, session, tx, any); `route` (any-node: a
standby gives the same bytes; primary; either); `standby`: what a caught-up standby answered (ok, SQLSTATE);
`why`: "differs" when it answered other bytes without an error.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def statements() -> Iterator[dict[str, Any]]:
    with gzip.open(Path(__file__).with_name("statements.jsonl.gz"), "rt") as lines:
        for line in lines:
            yield json.loads(line)
