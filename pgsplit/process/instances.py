"""The instances on this machine that can be found, by the default run_dir: where each is, and which a command means."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import PgSplitError
from . import files
from .client import Client, NotRunning


@dataclass(frozen=True)
class Instance:
    """*file*: its configuration's."""

    run_dir: str
    pid: int
    file: str


def running() -> list[Instance]:
    """Those that answer, where the default run_dir lies; also in `pgsplit` itself, as systemd's RuntimeDirectory is."""
    found = []
    for path in sorted(glob.glob(glob.escape(files.default_run_dir("\0")).replace("-\0", "*"))):
        try:
            if os.geteuid() and os.stat(path).st_uid != os.geteuid():
                continue        # anyone may make a directory in /tmp; root looks in /run
            about = Client(path).arbiter("about")
            found.append(Instance(path, about["pid"], about["file"]))
        except (OSError, PgSplitError, KeyError):
            continue
    return found


def find(config: str | None, run_dir: str | None, overrides: Mapping[str, Any] | None = None) -> str:
    """The run_dir of the instance that is meant: as given, or of *config* as *overrides* change it, or the only one.

    An instance that was started with another ``--bind``, or has been given another port by a reload, has its directory
    by the port that it started with: it is found by its file.

    :raises ConfigError: for a *config* with mistakes.
    :raises NotRunning: when there is none, or more than one could be meant.
    """
    if run_dir is not None:
        return run_dir
    if config is None:
        return _only(running(), "no pgsplit runs here", "--run-dir or --config says which")
    loaded = files.load_config(config, overrides=overrides)
    own = loaded.config.process.run_dir
    if loaded.sources["pgsplit.run_dir"] != "default" or _answers(own):
        return own
    others = [instance for instance in running() if os.path.realpath(instance.file) == os.path.realpath(config)]
    return _only(others, f"no pgsplit answers in {own}, nor does another one here run with {config}",
                 "--run-dir says which")


def _answers(run_dir: str) -> bool:
    try:
        Client(run_dir).arbiter("about")
    except PgSplitError:
        return False
    return True


def _only(found: list[Instance], none: str, which: str) -> str:
    if len(found) == 1:
        return found[0].run_dir
    if not found:
        raise NotRunning(none)
    listed = "".join(f"\n  {one.run_dir}: pid {one.pid}, {one.file}" for one in found)
    raise NotRunning(f"{len(found)} instances run here; {which}:{listed}")
