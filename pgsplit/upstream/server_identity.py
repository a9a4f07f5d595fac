"""Which server a connection has reached: its address alone does not tell, since that may be a balancer's.

Asked on the connection itself, behind its login and ahead of the session's first batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..split.transaction import SETTINGS, UNKNOWN_DEFAULTS, Defaults
from ..wire import build
from .rows import take_rows
from .stream import Stream

UNKNOWN: Final = 0        # a timeline that could not be found out: real ones begin at 1

# Names mean the same whatever the role's search_path is. The number does not depend on DateStyle and TimeZone.
START_TIME: Final = """(extract(epoch from pg_catalog.pg_postmaster_start_time())
  operator(pg_catalog.*) 1000000)::pg_catalog.int8"""
_SERVER: Final = f"""select {START_TIME}, pg_catalog.pg_is_in_recovery(),
  case when not pg_catalog.pg_is_in_recovery() then
    pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) end,
  {", ".join(f"pg_catalog.current_setting('{name}', true)" for name in SETTINGS)}"""
QUESTION: Final = build.query(f"{_SERVER}, (select system_identifier from pg_catalog.pg_control_system())")
# By SQLSTATE of the answer, what is asked instead: a role that may not read the control file; and a standby, which
# answers nothing where default_transaction_isolation is serializable (manual 27.4.2).
_INSTEAD: Final = {
    "42501": (build.query(f"{_SERVER}, null"),),
    "0A000": (build.query("start transaction isolation level read committed read only"), QUESTION,
              build.query("rollback")),
}


@dataclass(frozen=True, slots=True)
class Reached:
    """The server at the other end. *timeline*: where it is out of recovery; what it was then it is for as long as the
    connection lasts, but for a promotion.
    """

    started: int                   # pg_postmaster_start_time(), microseconds of Unix time
    in_recovery: bool
    timeline: int
    system_identifier: str
    transactions: Defaults = UNKNOWN_DEFAULTS      # what the session's settings made of transactions when it began


def take(stream: Stream) -> Reached | None:
    """The answer to QUESTION, up to ReadyForQuery. None: the server would not say.

    :raises ServerError: FATAL; the connection is at its end.
    :raises ConnectionLost: likewise.
    """
    rows, error = take_rows(stream)
    if error is not None and (instead := _INSTEAD.get(error.sqlstate)):
        stream.write(b"".join(instead))
        rows = [row for question in instead for row in take_rows(stream)[0]]
    if len(rows) != 1 or len(rows[0]) != 4 + len(SETTINGS):
        return None
    started, in_recovery, timeline, *settings, system = rows[0]
    defaults = {name: value.decode(errors="replace") for name, value in zip(SETTINGS, settings, strict=True)
                if value is not None}
    try:
        return Reached(int(started or b""), in_recovery == b"t", int(timeline, 16) if timeline else UNKNOWN,
                       (system or b"").decode("ascii"), Defaults.of(defaults))
    except ValueError:
        return None
