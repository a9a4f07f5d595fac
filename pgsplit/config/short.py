"""The short form, rewritten to Envoy's shape: the same objects, whose nodes keep the lines they came from."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from .fields import BOOTSTRAP, SERVER, SHORT, Kind
from .nodes import Mapping, Node, Scalar, Sequence
from .reader import Fields, Notes
from .settings import BY_NAME

PROXY = "type.googleapis.com/envoy.extensions.filters.network.postgres_proxy.v3alpha.PostgresProxy"
TCP = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
READ, WRITE = "replicas", "primary"
SERVERS = "servers"             # instead of both
FORM = Kind(SHORT.name, tuple(dict.fromkeys((*SHORT.read, *BY_NAME))))
PARAMS = {"min_protocol_version": "tls_minimum_protocol_version",
          "max_protocol_version": "tls_maximum_protocol_version", "ciphers": "cipher_suites",
          "ecdh_curves": "ecdh_curves"}
PAIR = ("certificate", "key")
CLIENTS = {"client_ca": "trusted_ca", "client_crl": "crl"}
REQUIRED = "require_client_certificate"
TLS = Kind("tls block", ("mode", *PAIR, *CLIENTS, REQUIRED, *PARAMS))
CLIENT_MODES = ("allow", "require")     # may clients go without?
UPSTREAM_TLS = Kind("upstream_tls block", ("mode", *PAIR, "crl", *PARAMS))
MODES = ("disable", "require", "verify")


def is_short(root: Mapping) -> bool:
    """By the fields that only one of the forms has, misspelt ones too."""
    own = [name for name in SHORT.read if name not in BOOTSTRAP.read]
    return not _near(root, BOOTSTRAP.read[:1]) and any(_near(root, [name]) for name in own)


def _near(root: Mapping, names: Iterable[str]) -> bool:
    return any(difflib.get_close_matches(name, root.items, 1, 0.75) for name in names)


def rewrite(notes: Notes, root: Mapping) -> Mapping:
    fields = Fields(notes, root, "", FORM)
    root = Mapping(root.file, root.line, fields.items, {name: fields.where(name).line for name in fields.items})
    for name, node in root.items.items():
        node.path = name
    one_list = fields.has(SERVERS)
    for name in ("listen", *(() if one_list else (WRITE, READ))):
        if not fields.has(name):
            notes.wrong(root, name, "is missing")
    for name in (WRITE, READ) if one_list else ():
        if fields.has(name):
            notes.wrong(fields.where(name), name, "stands beside servers: give one list, or primary and replicas")
    if not fields.has("users") and not fields.has("users_file"):
        notes.wrong(root, "users", "is missing: give users or users_file")
    tls = root.items.get("upstream_tls")
    verify = tls is not None and fields.has("ca")       # most likely meant, where it is something else
    block, mode = _upstream_tls(fields, tls, "verify" if verify else "disable")
    if mode == "verify" and not fields.has("ca"):
        notes.wrong(tls or root, "upstream_tls", "verify needs ca: the file of the CA's certificate")
    if fields.has("ca") and mode != "verify":
        notes.wrong(fields.where("ca"), "ca", "is used with upstream_tls: verify only")
    context = _upstream_context(root, block, mode == "verify")
    static = _map(root, listeners=_seq(root, _listener(fields, root, mode)),
                  clusters=_seq(root, *(_cluster(fields, root, name, SERVERS if one_list else name, context)
                                        for name in (READ, WRITE))))
    top: dict[str, Node] = {"static_resources": static}
    if "admin" in root.items:
        top["admin"] = _admin_address(notes, root.items["admin"])
    top["pgsplit"] = _own(notes, root)
    return _map(root, **top)


def _listener(fields: Fields, root: Mapping, mode: str) -> Mapping:
    addresses = _addresses(fields, "listen")
    terminated = _start_tls(fields, root.items["tls"]) if fields.has("tls") else None
    proxy: dict[str, Node] = {
        "@type": _text(root, PROXY), "stat_prefix": _text(root, "postgres"), "split_rw": _text(root, "true"),
        "downstream_ssl": _text(root, _downstream_ssl(fields) if terminated else "DISABLE"),
        "upstream_ssl": _text(root, "DISABLE" if mode == "disable" else "REQUIRE"),
        "write_cluster_name": _text(root, WRITE)}
    for short, long in (("users", "user_list"), ("users_file", "user_list_file")):
        if short in root.items:
            proxy[long] = root.items[short]
    chain: dict[str, Node] = {"filters": _seq(
        root, _map(root, name=_text(root, "envoy.filters.network.postgres_proxy"), typed_config=_map(root, **proxy)),
        _map(root, name=_text(root, "envoy.filters.network.tcp_proxy"),
             typed_config=_map(root, **{"@type": _text(root, TCP), "stat_prefix": _text(root, "tcp"),
                                        "cluster": _text(root, READ)})))}
    if terminated:
        chain["transport_socket"] = terminated
    more = addresses[1:]
    listener: dict[str, Node] = {"name": _text(root, "postgres"), "address": addresses[0],
                                 "filter_chains": _seq(root, _map(root, **chain))}
    if more:
        listener["additional_addresses"] = _seq(root, *(_map(a, address=a) for a in more))
    return _map(root, **listener)


def _downstream_ssl(fields: Fields) -> str:
    tls = fields.items["tls"]
    return Fields(fields.notes, tls, "tls", TLS).choice("mode", CLIENT_MODES, "allow").upper()


def _start_tls(fields: Fields, tls: Node) -> Mapping | None:
    block = Fields(fields.notes, tls, "tls", TLS)
    items = block.items
    given = [block.required(name) for name in PAIR]
    if not all(given):
        return None
    common = {"tls_certificates": _certificates(tls, items), **_params(block), **_validation(block, CLIENTS)}
    context: dict[str, Node] = {"common_tls_context": _map(tls, **common)}
    if block.has(REQUIRED):
        context[REQUIRED] = block.items[REQUIRED]
    return _map(tls, name=_text(tls, "starttls"), typed_config=_map(tls, tls_socket_config=_map(tls, **context)))


def _validation(block: Fields, names: dict[str, str]) -> dict[str, Node]:
    given = {long: block.items[name] for name, long in names.items() if block.has(name)}
    sources = {name: _map(node, filename=node) for name, node in given.items()}
    return {"validation_context": _map(block.node, **sources)} if sources else {}


def _certificates(where: Node, items: dict[str, Node]) -> Sequence:
    return _seq(where, _map(where, certificate_chain=_map(items["certificate"], filename=items["certificate"]),
                            private_key=_map(items["key"], filename=items["key"])))


def _params(block: Fields) -> dict[str, Node]:
    for name, node in block.items.items():
        node.path = f"{block.path}.{name}"
    given = {long: block.items[name] for name, long in PARAMS.items() if block.has(name)}
    return {"tls_params": _map(block.node, **given)} if given else {}


def _upstream_tls(fields: Fields, tls: Node | None, default: str) -> tuple[Fields | None, str]:
    """The mode stands alone, or in a mapping with what else there is to say."""
    if not isinstance(tls, Mapping):
        return None, fields.choice("upstream_tls", MODES, default)
    block = Fields(fields.notes, tls, "upstream_tls", UPSTREAM_TLS)
    block.required("mode")
    mode = block.choice("mode", MODES, default) if block.text("mode") else default
    if mode == "disable" and len(block.items) > 1:
        fields.notes.wrong(block.where("mode"), block.at("mode"), "disable leaves nothing for the rest to say")
    if any(map(block.has, PAIR)):
        for name in PAIR:
            block.required(name)
    return block, mode


def _upstream_context(root: Mapping, block: Fields | None, verify: bool) -> Mapping | None:
    common: dict[str, Node] = {}
    where: Node | None = None
    if block is not None:
        where, common = block.node, {**_params(block), **_validation(block, {"crl": "crl"})}
        if all(isinstance(block.items.get(name), Scalar) for name in PAIR):
            common["tls_certificates"] = _certificates(block.node, block.items)
    if verify and "ca" in root.items:
        where = root.items["ca"]
        lists = common.get("validation_context")
        common["validation_context"] = _map(where, trusted_ca=_map(where, filename=where), **(
            lists.items if isinstance(lists, Mapping) else {}))
    if not common or where is None:
        return None
    return _map(where, name=_text(where, "starttls"), typed_config=_map(
        where, tls_socket_config=_map(where, common_tls_context=_map(where, **common))))


def _cluster(fields: Fields, root: Mapping, name: str, field: str, context: Mapping | None) -> Mapping:
    hosts = root.items.get(field, root)
    cluster: dict[str, Node] = {
        "name": _text(hosts, name), "type": _text(hosts, "STRICT_DNS"),
        "load_assignment": _map(hosts, cluster_name=_text(hosts, name), endpoints=_seq(
            hosts, *_servers(fields, field)))}
    if fields.has("lb_policy"):
        cluster["lb_policy"] = fields.items["lb_policy"]
    if context is not None:
        cluster["transport_socket"] = context
    return _map(hosts, **cluster)


def _admin_address(notes: Notes, admin: Node) -> Mapping:
    """``admin: HOST:PORT``, or a mapping whose ``address`` is that; the rest of it is `pgsplit.admin`."""
    where = admin.items.get("address", admin) if isinstance(admin, Mapping) else admin
    return _map(admin, address=_address(notes, where, "admin.address" if where is not admin else "admin"))


def _own(notes: Notes, root: Mapping) -> Node:
    """The `pgsplit:` block, with what of it stands at the top in it."""
    block = root.items.get("pgsplit", _map(root))
    if not isinstance(block, Mapping):
        return block
    own = Mapping(block.file, block.line, dict(block.items), dict(block.key_lines), path="pgsplit")
    for name in (*BY_NAME, "monitor", "user_maps", "topology"):
        if name in root.items and name in block.items:
            notes.wrong(Node(root.file, root.key_lines[name]), name,
                        f"stands in pgsplit, too, in line {block.key_lines[name]}")
        elif name in root.items and name != "monitor":
            own.items[name], own.key_lines[name] = root.items[name], root.key_lines[name]
    admin = root.items.get("admin")
    if isinstance(admin, Mapping):
        rest = {name: node for name, node in admin.items.items() if name != "address"}
        own.items["admin"] = Mapping(admin.file, admin.line, rest, dict(admin.key_lines), path="admin")
        own.key_lines["admin"] = root.key_lines["admin"]
    if "monitor" in root.items:
        monitor = root.items["monitor"]
        own.items["monitor"] = _map(monitor, username=monitor) if isinstance(monitor, Scalar) else monitor
        own.key_lines["monitor"] = root.key_lines["monitor"]
    if SERVERS in root.items:
        _find_roles_out(own, root)
    return own


def _find_roles_out(own: Mapping, root: Mapping) -> None:
    """Both clusters have ``role: auto`` where the file does not say otherwise."""
    clusters = own.items.get("clusters", _map(root))
    if not isinstance(clusters, Mapping) or "role" in own.items:
        return
    found = Mapping(clusters.file, clusters.line, dict(clusters.items), dict(clusters.key_lines), path=clusters.path)
    for name in (READ, WRITE):
        cluster = found.items.get(name, _map(root))
        if isinstance(cluster, Mapping) and "role" not in cluster.items:
            where = Node(root.file, root.key_lines[SERVERS])
            items = {**cluster.items, "role": _text(where, "auto")}
            found.items[name] = Mapping(cluster.file, cluster.line, items,
                                        {**cluster.key_lines, "role": where.line}, path=cluster.path)
            found.key_lines.setdefault(name, where.line)
    own.items["clusters"] = found
    own.key_lines.setdefault("clusters", root.key_lines[SERVERS])


def _servers(fields: Fields, field: str) -> list[Mapping]:
    """Each an address, or a mapping that says which sessions the server gets, too."""
    given = fields.items.get(field)
    nodes = given.items if isinstance(given, Sequence) else [given] if given is not None else []
    if not any(isinstance(node, Mapping) for node in nodes):
        return [_server(address) for address in _addresses(fields, field, 5432)]
    found = []
    for index, node in enumerate(nodes):
        node.path = f"{field}[{index}]" if isinstance(given, Sequence) else field
        if not isinstance(node, Mapping):
            found.append(_server(_address(fields.notes, node, node.path, 5432)))
            continue
        block = Fields(fields.notes, node, node.path, SERVER)
        for name, value in block.items.items():
            value.path = value.path or f"{node.path}.{name}"      # by the name that stands there
        given_address = block.items["address"] if block.required("address") else None
        address = (_address(fields.notes, given_address, block.at("address"), 5432) if given_address is not None
                   else _nowhere(node))
        found.append(_server(address, block.items))
    return found


def _server(address: Mapping, items: dict[str, Node] | None = None) -> Mapping:
    """As Envoy's locality with one endpoint."""
    items = items or {}
    weight = {"load_balancing_weight": items["weight"]} if "weight" in items else {}
    place: dict[str, Node] = {"priority": items["priority"]} if "priority" in items else {}
    if "zone" in items:
        place["locality"] = _map(items["zone"], zone=items["zone"])
    endpoint = _map(address, endpoint=_map(address, address=address), **weight)
    return _map(address, lb_endpoints=_seq(address, endpoint), **place)


def _addresses(fields: Fields, field: str, default_port: int = 0) -> list[Mapping]:
    """One at least: where none can be read, which has been said, one that nobody will use."""
    given = fields.items.get(field)
    if given is None:
        return [_nowhere(fields.node)]
    if not isinstance(given, Sequence):
        return [_address(fields.notes, given, field, default_port)]
    if not given.items:
        fields.notes.wrong(fields.where(field), field, "is an empty list")
        return [_nowhere(given)]
    for index, node in enumerate(given.items):
        node.path = f"{field}[{index}]"
    return [_address(fields.notes, node, node.path, default_port) for node in given.items]


def _nowhere(where: Node) -> Mapping:
    return _map(where, socket_address=_map(where, address=_text(where, "localhost"), port_value=_text(where, "1")))


def _address(notes: Notes, node: Node, path: str, default_port: int = 0) -> Mapping:
    """``host:port``, ``[v6]:port``, ``*:port``, or a Unix socket's path (``unix:`` may stand before it)."""
    if not isinstance(node, Scalar):
        notes.wrong(node, path, "is one address: HOST:PORT, or the path of a Unix socket")
        return _nowhere(node)
    text = node.value.removeprefix("unix:")
    if text.startswith("/"):
        return _map(node, pipe=_map(node, path=_text(node, text)))
    host, found, port = text.rpartition(":")
    if not found or (":" in host and not host.startswith("[")):
        host, port = text, str(default_port)
    host = host.strip("[]")
    if not host or port == "0" or not port.isdigit():
        notes.wrong(node, path, f"{node.value!r} is not HOST:PORT, nor the path of a Unix socket")
        return _nowhere(node)
    return _map(node, socket_address=_map(node, address=_text(node, "0.0.0.0" if host == "*" else host),
                                          port_value=_text(node, port)))


def _text(where: Node, value: str) -> Scalar:
    return Scalar(where.file, where.line, value, path=where.path)


def _seq(where: Node, *items: Node) -> Sequence:
    return Sequence(where.file, where.line, list(items), path=where.path)


def _map(where: Node, **items: Node) -> Mapping:
    return Mapping(where.file, where.line, dict(items), {name: node.line for name, node in items.items()},
                   path=where.path)
