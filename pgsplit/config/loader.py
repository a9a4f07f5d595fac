"""From YAML text to a `Config`: all mistakes at once, each with file, line, path and what is wrong."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import ConfigError
from . import fields as kinds
from . import units
from .admin import ADMIN, read_admin
from .envoy import EnvoyReader, RawCluster, RawListener
from .model import Address, Admin, Cluster, Config, Listener, Monitor, Process, Topology, User
from .nodes import Mapping as MappingNode
from .nodes import compose
from .reader import Fields, Notes
from .settings import Scope, Setting, of_scope
from .short import is_short, rewrite
from .together import Place, check_addresses, check_roles
from .topology import FILES, read_topology
from .user_maps import read_maps
from .users import CERT, is_clear, is_verifier, read_list

Read = Callable[[str], str]
"""The text of a file that the configuration names. :raises OSError: when it cannot be read."""

EMPTY_IS_NONE: Final = ("pidfile", "log_file")


@dataclass
class Loaded:
    """*sources*: for each setting's path the ``FILE:LINE`` that set it, or ``default``. *files*: what was read.

    *marks*: where a listener's certificate or a cluster's CA stands, for mistakes that show when they are read.
    *user_lists*: for each listener the file that holds its list of users, and the list's place in that document.
    """

    config: Config
    warnings: list[str]
    sources: dict[str, str]
    files: list[str] = field(default_factory=list)
    marks: dict[str, str] = field(default_factory=dict)
    user_lists: dict[str, tuple[str, tuple[str | int, ...]]] = field(default_factory=dict)


def load(text: str, filename: str, read: Read, *, generation: int = 1, defaults: Mapping[str, Any] | None = None,
         overrides: Mapping[str, Any] | None = None) -> Loaded:
    """*defaults*: of settings that depend on the machine: workers, and run_dir, in which ``{port}`` is the first
    listener's. *overrides*: the command line's.

    :raises ConfigError: with every mistake.
    """
    notes = Notes()
    root = compose(text, filename, notes.problems)
    if root is not None and not isinstance(root, MappingNode):
        notes.wrong(root, "(top)", "a configuration is a mapping")
    if notes.problems or not isinstance(root, MappingNode):
        raise ConfigError(notes.problems)
    short = is_short(root)
    if short:
        root = rewrite(notes, root)
    loader = _Loader(notes, root, filename, read, defaults or {}, overrides or {}, "users" if short else "user_list")
    config = loader.config(generation)
    if notes.problems or config is None:
        raise ConfigError(list(dict.fromkeys(notes.problems)))
    warnings = list(dict.fromkeys(notes.warnings))
    return Loaded(config, warnings, loader.sources, loader.files, loader.marks, loader.user_lists)


class _Loader:
    def __init__(self, notes: Notes, root: MappingNode, filename: str, read: Read, defaults: Mapping[str, Any],
                 overrides: Mapping[str, Any], user_list: str) -> None:
        self.sources: dict[str, str] = {}
        self.files = [filename]
        self.marks: dict[str, str] = {}
        self.user_lists: dict[str, tuple[str, tuple[str | int, ...]]] = {}
        self._notes = notes
        self._read = read
        self._defaults = defaults
        self._overrides = overrides
        self._user_list = user_list       # what the file's form calls it
        self._top = Fields(notes, root, "", kinds.BOOTSTRAP)
        own = tuple(setting.name for scope in _SCOPES for setting in of_scope(scope))
        self._own = self._top.mapping("pgsplit", kinds.Kind("pgsplit block", (*own, "monitor", "admin", "listeners",
                                                                                "clusters", "user_maps", "topology")))
        self._maps = read_maps(self._own)
        self._envoy = EnvoyReader(notes, posixpath.dirname(filename), self._maps)

    def config(self, generation: int) -> Config | None:
        """None when mistakes were noted that leave nothing to build."""
        static = self._top.mapping("static_resources", kinds.STATIC)
        if not self._top.has("static_resources"):
            self._notes.wrong(self._top.node, "static_resources", "is missing")
        raw_listeners = [self._envoy.listener(fields) for fields in static.mappings("listeners", kinds.LISTENER)]
        raw_clusters = [self._envoy.cluster(fields) for fields in static.mappings("clusters", kinds.CLUSTER)]
        if self._top.has("static_resources") and not raw_listeners:
            self._notes.wrong(static.node, static.at("listeners"), "there is no listener")
        self._unique("listener", raw_listeners)
        self._unique("cluster", raw_clusters)
        self.marks |= self._envoy.marks
        self._bind(raw_listeners)
        listeners = self._overridden("listeners", "listener", raw_listeners, self._listener, raw_clusters)
        clusters = self._overridden("clusters", "cluster", raw_clusters, self._cluster, listeners)
        self._direct_tls(listeners, clusters)
        process = self._process(raw_listeners)
        self._zone(process.zone, clusters)
        monitor = self._monitor([user for raw in raw_listeners for user in raw.users])
        admin = self._admin()
        self._check_together(raw_listeners, raw_clusters, listeners, admin)
        if self._notes.problems or monitor is None:
            return None
        return Config(generation=generation, listeners=tuple(listeners), clusters=tuple(clusters), admin=admin,
                      monitor=monitor, process=process)

    def _check_together(self, raws: list[RawListener], clusters: list[RawCluster], listeners: list[Listener],
                        admin: Admin | None) -> None:
        listening = [Place(f"listener {raw.name}", address, *place) for raw in raws
                     for address, place in zip(raw.addresses, raw.places, strict=True)]
        if admin is not None:
            where = self._top.mapping("admin", kinds.ADMIN)
            listening.append(Place("the admin page", admin.address, where.where("address"), where.at("address")))
        endpoints = [(Place(f"cluster {raw.name}", address, *place)) for raw in clusters
                     for address, place in zip(raw.endpoints, raw.places, strict=True)]
        check_addresses(self._notes, listening, endpoints)
        for place in endpoints:
            self.marks[f"{place.what} {place.address}"] = f"{place.node.file}:{place.node.line}: {place.path}"
        if len(listeners) == len(raws):
            check_roles(self._notes, listeners, [(raw.proxy.where("write_cluster_name"),
                                                  raw.proxy.at("write_cluster_name")) for raw in raws])

    def _unique(self, what: str, raws: Iterable[RawListener | RawCluster]) -> None:
        seen: set[str] = set()
        for raw in raws:
            if raw.name in seen:
                self._notes.wrong(raw.fields.node, raw.fields.path, f"a {what} {raw.name!r} stands before")
            seen.add(raw.name)

    def _bind(self, raws: list[RawListener]) -> None:
        """The command line's --bind."""
        bind = self._overrides.get("bind")
        if bind is None or not raws:
            return
        host, _, port = str(bind).rpartition(":")
        if len(raws) > 1 or not port.isdigit() or not 0 < int(port) < 65536:
            self._notes.problems.append(f"--bind {bind}: "
                                        + ("there is more than one listener" if len(raws) > 1 else "is not HOST:PORT"))
            return
        raws[0].addresses = [Address(host=host.strip("[]") or "0.0.0.0", port=int(port))]
        raws[0].places = raws[0].places[:1] or [(raws[0].fields.node, raws[0].fields.path)]

    # --- settings -----------------------------------------------------------------------------------------

    def _settings(self, scope: Scope, own: Fields | None, name: str) -> dict[str, Any]:
        """The settings of a scope: the object's own, else the block's, else the default."""
        values = {}
        for setting in of_scope(scope):
            holder = own if own is not None and own.has(setting.name) else self._own
            path = holder.at(setting.name)
            values[setting.name] = self._setting(setting, holder)
            where = holder.where(setting.name)
            key = f"pgsplit.{scope}s.{name}.{setting.name}" if name else f"pgsplit.{setting.name}"
            self.sources[key] = f"{where.file}:{where.line}" if holder.has(setting.name) else "default"
            if scope == "process" and setting.name in self._overrides:
                values[setting.name] = self._overrides[setting.name]
                self.sources[path] = "command line"
        return values

    def _setting(self, setting: Setting, holder: Fields) -> Any:
        default = self._defaults.get(setting.name)
        if default is None and setting.default is not None:
            default = setting.read(setting.default)
        return holder.scalar(setting.name, setting.read, default)

    def _overridden(self, field_name: str, scope: Scope, raws: list[Any], make: Callable[..., Any],
                    *more: Any) -> list[Any]:
        """Objects made with the overrides that `pgsplit.<field_name>.<name>` holds for them."""
        names = tuple(raw.name for raw in raws)
        block = self._own.mapping(field_name, kinds.Kind(f"pgsplit.{field_name} block", names))
        own = kinds.Kind(f"{scope}'s settings", (*(setting.name for setting in of_scope(scope)),
                                                 *(("topology",) if scope == "cluster" else ())))
        return [made for raw in raws
                if (made := make(raw, self._settings(scope, block.mapping(raw.name, own), raw.name), *more))]

    def _process(self, raws: list[RawListener]) -> Process:
        values = self._settings("process", None, "")
        if self.sources["pgsplit.run_dir"] == "default":
            port = next((address.port for raw in raws for address in raw.addresses), 0)
            values["run_dir"] = values["run_dir"].replace("{port}", str(port))
        for name in EMPTY_IS_NONE:
            values[name] = values[name] or None
        return Process.model_construct(**values)

    # --- objects ------------------------------------------------------------------------------------------

    def _listener(self, raw: RawListener, settings: dict[str, Any], clusters: list[RawCluster]) -> Listener | None:
        proxy = raw.proxy
        split = proxy.scalar("split_rw", units.boolean, False)
        write = proxy.text("write_cluster_name")
        if split and not write:
            self._notes.wrong(proxy.where("split_rw"), proxy.at("write_cluster_name"), "is missing: split_rw needs it")
        if settings["consistency"] not in ("global", "cluster") and (
                self.sources[f"pgsplit.listeners.{raw.name}.transactions"] == "default"):
            settings["transactions"] = "read_only"      # a read that another's write has outdated may be written by
        names = {cluster.name for cluster in clusters}
        for field_name, name in (("write_cluster_name", write), ("cluster", raw.read_cluster)):
            if name and name not in names:
                self._notes.wrong(proxy.where(field_name), proxy.at(field_name),
                                  f"there is no cluster {name!r}; there are {', '.join(sorted(names)) or 'none'}")
        raw.users = self._users(raw)
        by_certificate = next((user.username for user in raw.users if user.secret == CERT), None)
        if by_certificate is not None and (raw.tls is None or raw.tls.client_ca is None):
            field_name = "user_list_file" if raw.users_file else "user_list"
            self._notes.wrong(proxy.where(field_name), proxy.at(field_name), f"user {by_certificate!r} is let in by a "
                              "certificate, but there is no CA for those of clients")
        if settings["mode"] == "observe" and not split:
            path = f"pgsplit.listeners.{raw.name}.mode"
            self._notes.warnings.append(f"{self.sources[path]}: {path}: is ignored: this listener does not split reads "
                                        "from writes, so nothing of it is classified")
        if split:
            self._check_auth_user(raw, settings["auth_user"])
        self.marks[f"listener {raw.name}"] = raw.chain.mark("transport_socket")
        mode = self._downstream_ssl(raw)
        if self._notes.problems:
            return None
        return Listener(
            name=raw.name, addresses=tuple(raw.addresses), stat_prefix=proxy.required("stat_prefix"),
            enable_sql_parsing=proxy.scalar("enable_sql_parsing", units.boolean, True), downstream_ssl=mode,
            upstream_ssl=proxy.choice("upstream_ssl", ("DISABLE", "REQUIRE"), "DISABLE"),  # type: ignore[arg-type]
            split_rw=split,
            read_cluster=raw.read_cluster, write_cluster=write if split else raw.read_cluster,
            users=tuple(raw.users), tls=raw.tls, **settings)

    def _check_auth_user(self, raw: RawListener, name: str) -> None:
        """It is to log in by itself, without a client that shows what it knows."""
        entry = next((user for user in raw.users if user.username == name), None)
        if not name or (entry is not None and (entry.secret == CERT or not is_verifier(entry.secret))):
            return
        path = f"pgsplit.listeners.{raw.name}.auth_user"
        self._notes.problems.append(
            f"{self.sources[path]}: {path}: user {name!r} is "
            + (f"in {self._user_list} with a SCRAM verifier, which cannot log in by itself" if entry is not None
               else f"not in {self._user_list}"))

    def _users(self, raw: RawListener) -> list[User]:
        if not raw.users_file:
            place = re.findall(r"[^.\[\]]+", raw.proxy.at("user_list"))
            if raw.proxy.has("user_list"):
                self.user_lists[raw.name] = self.files[0], tuple(int(s) if s.isdecimal() else s for s in place)
            return raw.users
        where, path = raw.proxy.where("user_list_file"), raw.proxy.at("user_list_file")
        if raw.proxy.has("user_list"):
            self._notes.wrong(where, path, f"stands beside {self._user_list}: give one of them")
        try:
            text = self._read(raw.users_file)
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            self._notes.wrong(where, path, f"{raw.users_file}: {why}")
            return raw.users
        self.files.append(raw.users_file)
        self.user_lists[raw.name] = raw.users_file, ()
        node = compose(text, raw.users_file, self._notes.problems)
        return read_list(self._notes, node, "users", self._maps)

    def _downstream_ssl(self, raw: RawListener) -> Any:
        proxy = raw.proxy
        mode = proxy.choice("downstream_ssl", ("DISABLE", "ALLOW", "REQUIRE"), "")
        terminate = proxy.scalar("terminate_ssl", units.boolean, False)
        if mode and proxy.has("terminate_ssl") and terminate != (mode != "DISABLE"):
            self._notes.wrong(proxy.where("terminate_ssl"), proxy.at("terminate_ssl"),
                              f"contradicts downstream_ssl: {mode}")
        mode = mode or ("ALLOW" if terminate else "DISABLE")
        if mode != "DISABLE" and raw.tls is None:
            name = "downstream_ssl" if proxy.has("downstream_ssl") else "terminate_ssl"
            self._notes.wrong(proxy.where(name), proxy.at(name),
                              "needs a certificate: the filter chain has no starttls transport_socket with one")
        return mode

    def _cluster(self, raw: RawCluster, settings: dict[str, Any], listeners: list[Listener]) -> Cluster | None:
        self.marks[f"cluster {raw.name}"] = raw.fields.mark("transport_socket")
        settings["role"] = self._role(raw.name, settings["role"], listeners)
        topology = self._topology(raw.name, any(listener.split_rw and listener.write_cluster == raw.name
                                                for listener in listeners))
        if self._notes.problems:
            return None
        return Cluster(name=raw.name, type=raw.type, lb_policy=raw.lb_policy,  # type: ignore[arg-type]
                       connect_timeout=raw.connect_timeout, endpoints=tuple(raw.endpoints),
                       placements=tuple(raw.placements), tls=raw.tls,
                       topology=topology, **settings)

    def _role(self, name: str, given: str | None, listeners: list[Listener]) -> str:
        """What the cluster's endpoints are: as it says, if that is what listeners take them for."""
        splitting = [listener for listener in listeners if listener.split_rw]
        path = f"pgsplit.clusters.{name}.role"
        for listener in splitting:
            used = ("write" if listener.write_cluster == name else "read" if listener.read_cluster == name else "")
            if used and given not in (None, "auto", used):
                does = "writes to" if used == "write" else "reads from"
                self._notes.problems.append(f"{self.sources[path]}: {path}: is {given}, but listener "
                                            f"{listener.name!r} {does} this cluster: {used}, or auto")
        if given is not None and listeners and not any(
                name in (listener.write_cluster, listener.read_cluster) for listener in splitting):
            self._notes.warnings.append(f"{self.sources[path]}: {path}: is ignored: no listener splits reads from "
                                        "writes here, so whatever answers serves")
        return given or ("write" if any(listener.write_cluster == name for listener in splitting) else "read")

    def _topology(self, name: str, written_to: bool) -> Topology:
        """The cluster's own, else the block's: of a cluster that is written to."""
        clusters = self._own.items.get("clusters")
        cluster = clusters.items.get(name) if isinstance(clusters, MappingNode) else None
        node = cluster.items.get("topology") if isinstance(cluster, MappingNode) else None
        own = node is not None
        node = node or self._own.items.get("topology")
        path = f"pgsplit.clusters.{name}.topology" if own else self._own.at("topology")
        topology = read_topology(self._notes, node, path, self._envoy.file)
        for field_name in FILES:
            if isinstance(node, MappingNode):
                self.marks[f"cluster {name} topology {field_name}"] = Fields(Notes(), node, path, kinds.TOPOLOGY).mark(
                    field_name)
        if written_to or not own or node is None:
            return topology if written_to else Topology()
        self._notes.warn(node, path, "is ignored: nobody writes to this cluster")
        return Topology()

    def _zone(self, zone: str, clusters: list[Cluster]) -> None:
        zones = {placement.zone for cluster in clusters for placement in cluster.placements if placement.zone}
        if zone and clusters and zone not in zones:
            self._notes.warnings.append(f"{self.sources['pgsplit.zone']}: {self._own.at('zone')}: no server is in zone "
                                        f"{zone!r}; they are in {', '.join(sorted(zones)) or 'none'}")

    def _direct_tls(self, listeners: list[Listener], clusters: list[Cluster]) -> None:
        direct = {cluster.name for cluster in clusters if cluster.sslnegotiation == "direct"}
        for listener in listeners:
            if listener.upstream_ssl == "DISABLE" and (names := direct & {listener.read_cluster,
                                                                          listener.write_cluster}):
                path = f"pgsplit.clusters.{min(names)}.sslnegotiation"
                self._notes.problems.append(f"{self.sources[path]}: {path}: direct is TLS, and listener "
                                            f"{listener.name!r} has none to its upstreams")

    def _admin(self) -> Admin | None:
        block = self._own.mapping("admin", ADMIN)
        if not self._top.has("admin"):
            if self._own.has("admin"):
                self._notes.wrong(block.node, "admin", "is missing: the address on which the admin page listens")
            return None
        address = self._envoy.address(self._top.mapping("admin", kinds.ADMIN))
        self.marks["admin"] = block.mark("tls")
        return read_admin(address, self._top.where("admin"), block) if address is not None else None

    def _monitor(self, users: list[User]) -> Monitor | None:
        block = self._own.mapping("monitor", kinds.Kind("monitor", ("username", "database")))
        database = block.text("database", "postgres")
        name = block.text("username")
        clear = next((user for user in users if is_clear(user.secret)), None)
        chosen = next((user for user in users if user.username == name), None) if name else clear
        if chosen is None or (name and not is_clear(chosen.secret)):
            if not users and self._notes.problems:
                return None         # what is wrong with them has been said
            where = block.where("username") if name else self._top.node
            self._notes.wrong(where, self._own.at("monitor"),
                              f"user {name!r} is not in {self._user_list} with a clear password" if name
                              else f"health checks need a user: none in {self._user_list} has a clear password")
            return None
        return Monitor(username=chosen.username, database=database, secret=chosen.secret)


_SCOPES: Final[tuple[Scope, ...]] = ("process", "listener", "cluster")
