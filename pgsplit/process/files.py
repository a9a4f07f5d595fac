"""Reading the configuration's files, and checking those that it names."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from typing import Any

from ..config.loader import Loaded, load
from ..config.model import ServerTls
from ..errors import ConfigError
from .tls_files import wrong_with_certificates, wrong_with_pair, wrong_with_params, wrong_with_trust


def load_config(path: str, generation: int = 1, overrides: Mapping[str, Any] | None = None,
                replaced: Mapping[str, str] | None = None) -> Loaded:
    """The configuration in *path*, complete and checked, files that it names included.

    *replaced*: texts that are to be taken for what the files of these names hold.

    :raises ConfigError: with one ``FILE:LINE: path.to.field: what is wrong`` for every mistake.
    """
    def read(name: str) -> str:
        return replaced[name] if replaced and name in replaced else _read(name)

    try:
        text = read(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}:1: {getattr(error, 'strerror', None) or error}"]) from None
    loaded = load(text, path, read, generation=generation, defaults=machine_defaults(), overrides=overrides)
    problems = check_files(loaded)
    if problems:
        raise ConfigError(problems)
    loaded.warnings += [f"{name}:1: holds passwords and can be read by others: chmod 600"
                        for name in loaded.files if _readable_by_others(name)]
    return loaded


def machine_defaults() -> dict[str, Any]:
    """`load`'s."""
    return {"workers": len(os.sched_getaffinity(0)), "run_dir": default_run_dir("{port}")}


def default_run_dir(port: str) -> str:
    """Of the instance whose first listener has *port*: two instances with defaults do not meet."""
    base = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR")
    return os.path.join(base, f"pgsplit-{port}") if base else f"/tmp/pgsplit-{os.geteuid()}-{port}"


def check_files(loaded: Loaded) -> list[str]:
    """What is wrong with the certificates, keys and CAs, each with where it is named."""
    problems, config = [], loaded.config
    shown = [(f"listener {listener.name}", listener.tls) for listener in config.listeners]
    shown.append(("admin", config.admin.tls if config.admin is not None else None))
    for what, tls in shown:
        if tls is not None and (wrong := wrong_with_pair(tls)):
            problems.append(f"{loaded.marks[what]}: {wrong}")
    for cluster in config.clusters:
        if cluster.tls.ca is not None and (wrong := wrong_with_certificates(cluster.tls.ca)):
            problems.append(f"{loaded.marks[f'cluster {cluster.name}']}: {wrong}")
    for listener in config.listeners:
        if listener.tls is not None:
            bad = wrong_with_params(listener.tls.params) | wrong_with_trust(listener.tls.client_ca, listener.tls.crl)
            problems += [f"{loaded.marks[f'listener {listener.name} {field}']}: {why}" for field, why in bad.items()]
    for cluster in config.clusters:
        topology = cluster.topology
        if topology.ca and (wrong := wrong_with_certificates(topology.ca)):
            problems.append(f"{loaded.marks[f'cluster {cluster.name} topology ca']}: {wrong}")
        if topology.certificate and topology.key and (wrong := wrong_with_pair(
                ServerTls(certificate=topology.certificate, key=topology.key))):
            problems.append(f"{loaded.marks[f'cluster {cluster.name} topology certificate']}: {wrong}")
        bad = wrong_with_params(cluster.tls.params) | wrong_with_trust(None, cluster.tls.crl)
        if cluster.tls.certificate and cluster.tls.key and (wrong := wrong_with_pair(
                ServerTls(certificate=cluster.tls.certificate, key=cluster.tls.key))):
            bad["tls_certificates"] = wrong
        problems += [f"{loaded.marks[f'cluster {cluster.name} {field}']}: {why}" for field, why in bad.items()]
    return list(dict.fromkeys(problems))


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def read_exactly(path: str) -> str:
    """Line ends as they are."""
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def write_atomically(path: str, text: str) -> None:
    """Replace what *path* holds, all of it or nothing: a symbolic link stays one, owner and mode stay.

    :raises OSError: when it cannot be done; nothing has changed then.
    """
    path = os.path.realpath(path)
    status = os.stat(path)
    temporary = f"{path}.pgsplit-{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def seen(paths: Iterable[str]) -> dict[str, tuple[int, int, int] | None]:
    """What tells that a file was changed or replaced: time, inode and size; None for one that is not there."""
    found: dict[str, tuple[int, int, int] | None] = {}
    for path in paths:
        try:
            status = os.stat(path)
            found[path] = status.st_mtime_ns, status.st_ino, status.st_size
        except OSError:
            found[path] = None
    return found


def _readable_by_others(path: str) -> bool:
    return bool(stat.S_IMODE(os.stat(path).st_mode) & 0o044)
