"""The operating system's account that PostgreSQL runs under: it refuses root, and the uid must have a passwd entry."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgsplit.errors import PgSplitError


@dataclass(frozen=True)
class Account:
    uid: int
    gid: int
    name: str

    @property
    def popen(self) -> dict[str, Any]:
        """Arguments that make ``subprocess`` start a program under this account."""
        if os.geteuid() == self.uid:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give *path* to this account."""
        if os.geteuid() != self.uid:
            os.chown(path, self.uid, self.gid)


def choose() -> Account:
    """Our own account, or as root ``postgres``, else ``nobody``; PgSplitError where none has a passwd entry."""
    if os.geteuid() != 0:
        try:
            entry = pwd.getpwuid(os.geteuid())
        except KeyError:
            raise PgSplitError(f"PostgreSQL's initdb needs an /etc/passwd entry for uid {os.geteuid()}") from None
        return Account(entry.pw_uid, entry.pw_gid, entry.pw_name)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, entry.pw_name)
    raise PgSplitError("PostgreSQL refuses to run as root, and /etc/passwd has neither postgres nor nobody")
