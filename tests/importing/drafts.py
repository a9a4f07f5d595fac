"""Texts made into drafts and files, without a disk."""

from __future__ import annotations

from collections.abc import Mapping

from pgsplit.config.loader import Loaded, load
from pgsplit.importing import writer
from pgsplit.importing.draft import Draft, Wishes
from pgsplit.importing.pgbouncer import from_pgbouncer
from pgsplit.importing.pgpool import from_pgpool
from pgsplit.importing.source import Read

FILES = {"userlist.txt": '"app" "app-secret"\n', "pool_passwd": "app:TEXTapp-secret\n"}
DEFAULTS = {"workers": 2, "run_dir": "/run/x"}


def reader(files: Mapping[str, str]) -> Read:
    def read(name: str) -> str:
        if name in files:
            return files[name]
        raise FileNotFoundError(2, "No such file or directory", name)
    return read


def pgbouncer(text: str, *, files: Mapping[str, str] = FILES, userlist: str | None = "userlist.txt",
              **wishes: object) -> Draft:
    return from_pgbouncer(text, "pgbouncer.ini", reader(files), userlist, Wishes(**wishes))  # type: ignore[arg-type]


def pgpool(text: str, *, files: Mapping[str, str] = FILES, pool_passwd: str | None = "pool_passwd",
           **wishes: object) -> Draft:
    return from_pgpool(text, "pgpool.conf", reader(files), pool_passwd, Wishes(**wishes))  # type: ignore[arg-type]


def loaded(draft: Draft) -> Loaded:
    """The file that is written of it, as `check` reads it, but for the files that it names."""
    return load(writer.written(draft), "/etc/pgsplit.yaml", reader({}), defaults=DEFAULTS)


def about(draft: Draft, name: str) -> str:
    """What is said of the setting *name*, which is said once."""
    [text] = [str(remark) for remark in draft.remarks if remark.entry is not None and remark.entry.name == name]
    return text
