"""What is asked of the arbiter over its socket, and ordered: by the admin process, app.py and the demo."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from .. import __version__, compiled, log
from ..config.describe import described
from ..config.model import Listener
from ..errors import PgSplitError
from .users import UserLists

if TYPE_CHECKING:
    from .arbiter import Arbiter

logger = log.get("pgsplit.arbiter")


class Questions:
    """Each question is a method; their table is below."""

    def __init__(self, arbiter: Arbiter) -> None:
        self._arbiter = arbiter
        self._relay = compiled.form()

    def ask(self, what: str, args: Mapping[str, Any]) -> Any:
        """:raises PgSplitError: for what is not known, or cannot be done."""
        answer = _TABLE.get(what)
        if answer is None:
            raise PgSplitError(f"unknown question {what!r}; known are {', '.join(sorted(_TABLE))}")
        return answer(self, **args)

    # --- how it is ----------------------------------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        arbiter = self._arbiter
        return {"version": __version__, "pid": os.getpid(), "started": arbiter.started,
                "file": arbiter.file,
                "generation": arbiter.config.generation, "workers_wanted": arbiter.wanted,
                "restarts": arbiter.restarts, "monitor": arbiter.monitor.pid, "orders": arbiter.orders.told(),
                "listeners": [_listener(listener) for listener in arbiter.config.listeners],
                "clusters": [cluster.name for cluster in arbiter.config.clusters],
                "last_reload": arbiter.last_reload, "reloading": arbiter.reloading}

    def workers(self) -> list[dict[str, Any]]:
        return [{"worker": child.index + 1, "pid": child.pid, "booted": child.booted, "sessions": child.sessions,
                 "started": child.started, "leaving": child.leaving, "generation": child.generation,
                 "relay": self._relay}
                for child in sorted(self._arbiter.children.values(), key=lambda child: child.index)]

    def totals(self) -> dict[str, int]:
        return self._arbiter.totals()

    def history(self, since: float = 0.0) -> list[dict[str, Any]]:
        return self._arbiter.history.since(since)

    def log(self) -> list[dict[str, Any]]:
        return self._arbiter.log_lines()

    def configuration(self) -> dict[str, Any]:
        loaded = self._arbiter.loaded
        return {"text": described(loaded), "sources": loaded.sources, "files": loaded.files,
                "warnings": loaded.warnings}

    def function_lists(self) -> dict[str, Any]:
        process = self._arbiter.config.process
        return {"replica": process.replica_functions, "primary": process.primary_functions}

    # --- reload and users -----------------------------------------------------------------------------------

    def last_reload(self) -> dict[str, Any]:
        return self._arbiter.last_reload

    def reload(self) -> dict[str, Any]:
        self._arbiter.reload()
        return {"reloading": self._arbiter.reloading, **self._arbiter.last_reload}

    def users(self) -> list[dict[str, Any]]:
        return UserLists(self._arbiter.loaded).listing()

    def users_preview(self, listener: str, version: str, changes: list[Any]) -> dict[str, Any]:
        file, _, diff = UserLists(self._arbiter.loaded).edit(listener, version, changes)
        return {"file": file, "diff": diff}

    def users_save(self, listener: str, version: str, changes: list[Any]) -> dict[str, Any]:
        """Begins it: what comes of it `last_reload` tells, whose number is then greater than the one returned."""
        file, text, _ = UserLists(self._arbiter.loaded).edit(listener, version, changes)
        number = self._arbiter.last_reload["number"]
        self._arbiter.save(file, text)
        return {"number": number}

    # --- orders -----------------------------------------------------------------------------------------------

    def order_host(self, cluster: str, host: str, order: str) -> dict[str, Any]:
        self._arbiter.orders.host(self._arbiter.config, cluster, host, order)
        return self._arbiter.tell_orders()

    def order_reads(self, listener: str, to_primary: bool) -> dict[str, Any]:
        self._arbiter.orders.reads(self._arbiter.config, listener, to_primary)
        logger.warning("listener %s: %s", listener, "all reads go to the primary" if to_primary
                       else "reads go to replicas again")
        return self._arbiter.tell_orders()

    def order_forget_term(self, cluster: str) -> dict[str, Any]:
        self._arbiter.orders.forget_term(self._arbiter.config, cluster)
        return self._arbiter.tell_orders()

    def audit(self) -> list[dict[str, Any]]:
        return list(self._arbiter.audit.entries)

    def audit_add(self, who: str, deed: str, where: str, result: str = "done") -> bool:
        self._arbiter.audit.add(who, deed, where, result)
        return True


def _listener(listener: Listener) -> dict[str, Any]:
    return {"name": listener.name, "stat_prefix": listener.stat_prefix, "split_rw": listener.split_rw,
            "mode": listener.mode,
            "addresses": [str(address) for address in listener.addresses], "read_cluster": listener.read_cluster,
            "write_cluster": listener.write_cluster, "consistency": listener.consistency,
            "max_connections": listener.max_connections, "tls": listener.downstream_ssl,
            "certificate": listener.tls.certificate if listener.tls else None}


_TABLE: Final[dict[str, Callable[..., Any]]] = {question.__name__: question for question in (
    Questions.about, Questions.audit, Questions.audit_add, Questions.configuration, Questions.function_lists,
    Questions.history, Questions.last_reload, Questions.log, Questions.order_forget_term,
    Questions.order_host, Questions.order_reads, Questions.reload, Questions.totals, Questions.users,
    Questions.users_preview, Questions.users_save, Questions.workers)}
