"""The short form, rewritten to Envoy's shape: the same objects, whose nodes keep the lines they came from."""

from __future__ import annotations

from .fields import SHORT
from .nodes import Mapping, Node, Scalar, Sequence
from .reader import Fields, Notes

PROXY = "type.googleapis.com/envoy.extensions.filters.network.postgres_proxy.v3alpha.PostgresProxy"
TCP = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
READ, WRITE = "replicas", "primary"


def is_short(root: Mapping) -> bool:
    return "static_resources" not in root.items and any(name in root.items for name in ("listen", "primary"))


def rewrite(notes: Notes, root: Mapping) -> Mapping:
    fields = Fields(notes, root, "", SHORT)
    for name, node in root.items.items():
        node.path = name
    for name in ("listen", "primary", "replicas"):
        if not fields.has(name):
            notes.wrong(root, name, "is missing")
    if not fields.has("users") and not fields.has("users_file"):
        notes.wrong(root, "users", "is missing: give users or users_file")
    tls = root.items.get("upstream_tls")
    mode = fields.choice("upstream_tls", ("disable", "require", "verify"), "disable")
    if mode == "verify" and not fields.has("ca"):
        notes.wrong(tls or root, "upstream_tls", "verify needs ca: the file of the CA's certificate")
    if fields.has("ca") and mode != "verify":
        notes.wrong(fields.where("ca"), "ca", "is used with upstream_tls: verify only")
    static = _map(root, listeners=_seq(root, _listener(fields, root, mode)),
                  clusters=_seq(root, *(_cluster(fields, root, name, field, mode == "verify")
                                        for name, field in ((READ, "replicas"), (WRITE, "primary")))))
    top: dict[str, Node] = {"static_resources": static}
    if "admin" in root.items:
        top["admin"] = _admin_address(notes, root.items["admin"])
    top["pgsplit"] = _own(root)
    return _map(root, **top)


def _listener(fields: Fields, root: Mapping, mode: str) -> Mapping:
    listen = root.items.get("listen", Scalar(root.file, root.line, "127.0.0.1:6432"))
    nodes = listen.items if isinstance(listen, Sequence) else [listen]
    addresses = [_address(fields.notes, node, "listen") for node in nodes]
    terminated = root.items.get("tls")
    proxy: dict[str, Node] = {
        "@type": _text(root, PROXY), "stat_prefix": _text(root, "postgres"), "split_rw": _text(root, "true"),
        "downstream_ssl": _text(root, "ALLOW" if terminated else "DISABLE"),
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
        chain["transport_socket"] = _start_tls(fields, terminated)
    more = addresses[1:]
    listener: dict[str, Node] = {"name": _text(root, "postgres"), "address": addresses[0] if addresses else listen,
                                 "filter_chains": _seq(root, _map(root, **chain))}
    if more:
        listener["additional_addresses"] = _seq(root, *(_map(a, address=a) for a in more))
    return _map(root, **listener)


def _start_tls(fields: Fields, tls: Node) -> Mapping:
    items = dict(tls.items) if isinstance(tls, Mapping) else {}
    for name in items:
        if name not in ("certificate", "key"):
            fields.notes.wrong(items[name], f"tls.{name}", "unknown field of tls; known are certificate, key")
    missing = [name for name in ("certificate", "key") if not isinstance(items.get(name), Scalar)]
    for name in missing:
        fields.notes.wrong(tls, f"tls.{name}", "is missing")
    if missing:
        return _map(tls)
    certificate = _map(tls, certificate_chain=_map(items["certificate"], filename=items["certificate"]),
                       private_key=_map(items["key"], filename=items["key"]))
    context = _map(tls, common_tls_context=_map(tls, tls_certificates=_seq(tls, certificate)))
    return _map(tls, name=_text(tls, "starttls"), typed_config=_map(tls, tls_socket_config=context))


def _cluster(fields: Fields, root: Mapping, name: str, field: str, verify: bool) -> Mapping:
    hosts = root.items.get(field, Sequence(root.file, root.line, []))
    nodes = hosts.items if isinstance(hosts, Sequence) else [hosts]
    endpoints = [_map(node, endpoint=_map(node, address=_address(fields.notes, node, field, 5432))) for node in nodes]
    cluster: dict[str, Node] = {
        "name": _text(hosts, name), "type": _text(hosts, "STRICT_DNS"),
        "load_assignment": _map(hosts, cluster_name=_text(hosts, name), endpoints=_seq(
            hosts, _map(hosts, lb_endpoints=_seq(hosts, *endpoints))))}
    if verify and "ca" in root.items:
        ca = root.items["ca"]
        context: dict[str, Node] = {"common_tls_context": _map(ca, validation_context=_map(
            ca, trusted_ca=_map(ca, filename=ca)))}
        cluster["transport_socket"] = _map(ca, name=_text(ca, "starttls"), typed_config=_map(
            ca, tls_socket_config=_map(ca, **context)))
    return _map(hosts, **cluster)


def _admin_address(notes: Notes, admin: Node) -> Mapping:
    """``admin: HOST:PORT``, or a mapping whose ``address`` is that; the rest of it is `pgsplit.admin`."""
    where = admin.items.get("address", admin) if isinstance(admin, Mapping) else admin
    return _map(admin, address=_address(notes, where, "admin.address" if where is not admin else "admin"))


def _own(root: Mapping) -> Node:
    """The `pgsplit:` block, with the short form's own settings in it."""
    block = root.items.get("pgsplit", _map(root))
    if not isinstance(block, Mapping):
        return block
    own = Mapping(block.file, block.line, dict(block.items), dict(block.key_lines), path="pgsplit")
    if "consistency" in root.items:
        own.items["consistency"] = root.items["consistency"]
        own.key_lines["consistency"] = root.key_lines["consistency"]
    admin = root.items.get("admin")
    if isinstance(admin, Mapping):
        rest = {name: node for name, node in admin.items.items() if name != "address"}
        own.items["admin"] = Mapping(admin.file, admin.line, rest, dict(admin.key_lines), path="admin")
        own.key_lines["admin"] = root.key_lines["admin"]
    if "monitor" in root.items:
        monitor = root.items["monitor"]
        own.items["monitor"] = _map(monitor, username=monitor) if isinstance(monitor, Scalar) else monitor
        own.key_lines["monitor"] = root.key_lines["monitor"]
    return own


def _address(notes: Notes, node: Node, path: str, default_port: int = 0) -> Mapping:
    """``host:port``, ``[v6]:port``, ``*:port``, or a Unix socket's path (``unix:`` may stand before it)."""
    if not isinstance(node, Scalar):
        notes.wrong(node, path, "is one address: HOST:PORT, or the path of a Unix socket")
        return _map(node, socket_address=_map(node, address=_text(node, "invalid"), port_value=_text(node, "1")))
    text = node.value.removeprefix("unix:")
    if text.startswith("/"):
        return _map(node, pipe=_map(node, path=_text(node, text)))
    host, found, port = text.rpartition(":")
    if not found or (":" in host and not host.startswith("[")):
        host, port = text, str(default_port)
    host = host.strip("[]")
    if not host or port == "0" or not port.isdigit():
        notes.wrong(node, path, f"{node.value!r} is not HOST:PORT, nor the path of a Unix socket")
        host, port = host or "invalid", "1"
    return _map(node, socket_address=_map(node, address=_text(node, "0.0.0.0" if host == "*" else host),
                                          port_value=_text(node, port)))


def _text(where: Node, value: str) -> Scalar:
    return Scalar(where.file, where.line, value, path=where.path)


def _seq(where: Node, *items: Node) -> Sequence:
    return Sequence(where.file, where.line, list(items), path=where.path)


def _map(where: Node, **items: Node) -> Mapping:
    return Mapping(where.file, where.line, dict(items), {name: node.line for name, node in items.items()},
                   path=where.path)
