"""Listeners and clusters in Envoy's shape (S6; the names are those of Envoy's v3 API)."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import Final, get_args

from . import fields as kinds
from . import units
from .model import Address, LbPolicy, Placement, ServerTls, UpstreamTls, User
from .nodes import Node
from .reader import Fields, Notes
from .tls import read_params
from .user_maps import UserMaps
from .users import read_list

POSTGRES: Final = "envoy.filters.network.postgres_proxy"
TCP: Final = "envoy.filters.network.tcp_proxy"
CLUSTER_TYPES: Final = ("STATIC", "STRICT_DNS")


@dataclass
class RawListener:
    """A listener as the file has it; pgsplit's own settings come to it later."""

    fields: Fields
    name: str
    addresses: list[Address]
    chain: Fields
    proxy: Fields
    tls: ServerTls | None
    read_cluster: str
    users: list[User] = field(default_factory=list)
    users_file: str = ""
    places: list[tuple[Node, str]] = field(default_factory=list)       # of the addresses


@dataclass
class RawCluster:
    fields: Fields
    name: str
    type: str
    connect_timeout: float
    endpoints: list[Address]
    tls: UpstreamTls
    places: list[tuple[Node, str]]      # of the endpoints
    placements: list[Placement]         # likewise
    lb_policy: str


class EnvoyReader:
    """*directory*: what relative file names in the configuration are relative to.

    `marks`: where that stands of which only OpenSSL can say whether it is right, under ``listener NAME field``.
    """

    def __init__(self, notes: Notes, directory: str, maps: UserMaps) -> None:
        self.marks: dict[str, str] = {}
        self._notes = notes
        self._directory = directory
        self._maps = maps

    def file(self, name: str) -> str:
        return posixpath.join(self._directory, name) if name else ""

    # --- listeners ----------------------------------------------------------------------------------------

    def listener(self, fields: Fields) -> RawListener:
        name = fields.required("name")
        addresses, places = [], []
        for holder in [fields, *fields.mappings("additional_addresses", kinds.ADDITIONAL_ADDRESS)]:
            address = self.address(holder)
            if address is not None:
                addresses.append(address)
                places.append((holder.where("address"), holder.at("address")))
        chains = fields.sequence("filter_chains")
        if len(chains) != 1:
            self._notes.wrong(fields.where("filter_chains"), fields.at("filter_chains"),
                              "one filter chain is needed, and no more than one is supported")
        node, path = chains[0] if chains else (None, fields.at("filter_chains"))
        chain = Fields(self._notes, node, path, kinds.FILTER_CHAIN)
        proxy, tcp = self._filters(chain)
        raw = RawListener(fields, name, addresses, chain, proxy, self._start_tls(chain, f"listener {name}"),
                          tcp.required("cluster"), places=places)
        raw.users = read_list(self._notes, proxy.items.get("user_list"), proxy.at("user_list"), self._maps)
        raw.users_file = self.file(proxy.text("user_list_file"))
        return raw

    def address(self, fields: Fields) -> Address | None:
        """Envoy's Address: a socket_address or a pipe."""
        address = fields.mapping("address", kinds.ADDRESS)
        if address.has("pipe"):
            pipe = address.mapping("pipe", kinds.PIPE)
            path = pipe.required("path")
            if posixpath.basename(path) == path:
                self._notes.wrong(pipe.where("path"), pipe.at("path"), "must be an absolute path")
            suffix = posixpath.basename(path).removeprefix(".s.PGSQL.")
            return Address(host="", port=int(suffix) if suffix.isdigit() else 5432, path=path) if path else None
        if not address.has("socket_address"):
            self._notes.wrong(address.node if address.node.line else fields.node, fields.at("address"),
                              "socket_address is missing")
            return None
        sock = address.mapping("socket_address", kinds.SOCKET_ADDRESS)
        host, port = sock.required("address"), sock.scalar("port_value", _port, 0)
        if not sock.has("port_value"):
            self._notes.wrong(sock.node, sock.at("port_value"), "is missing")
        return Address(host=host, port=port) if host and port else None

    def _filters(self, chain: Fields) -> tuple[Fields, Fields]:
        """The two filters' configurations: postgres_proxy, then tcp_proxy."""
        found: dict[str, Fields] = {}
        for entry in chain.mappings("filters", kinds.FILTER):
            name = entry.required("name")
            kind = {POSTGRES: kinds.POSTGRES_PROXY, TCP: kinds.TCP_PROXY}.get(name)
            if kind is None:
                if name:
                    self._notes.wrong(entry.where("name"), entry.at("name"),
                                      f"the filter {name} is not supported, and cannot be ignored: it could refuse "
                                      "or change what passes")
            elif name in found:
                self._notes.wrong(entry.where("name"), entry.at("name"), f"{name} stands twice")
            else:
                found[name] = entry.mapping("typed_config", kind)
        for name, kind in ((POSTGRES, kinds.POSTGRES_PROXY), (TCP, kinds.TCP_PROXY)):
            if name not in found:
                self._notes.wrong(chain.where("filters"), chain.at("filters"), f"the filter {name} is missing")
                found[name] = Fields(Notes(), None, chain.at("filters"), kind)
        if list(found) == [TCP, POSTGRES] and chain.has("filters"):
            self._notes.wrong(chain.where("filters"), chain.at("filters"), f"{POSTGRES} must stand before {TCP}")
        return found[POSTGRES], found[TCP]

    def _start_tls(self, chain: Fields, owner: str) -> ServerTls | None:
        if not chain.has("transport_socket"):
            return None
        context = self._tls_context(chain, kinds.DOWNSTREAM_TLS)
        common = context.mapping("common_tls_context", kinds.COMMON_TLS)
        certificate, key = self._pair(common, owner)
        params = read_params(common, owner, self.marks)
        ca, crl, required = self._client_certificates(context, common, owner)
        if not certificate or not key:
            return None
        return ServerTls(certificate=certificate, key=key, params=params, client_ca=ca or None, crl=crl or None,
                         require_client_certificate=required)

    def _pair(self, common: Fields, owner: str) -> tuple[str, str]:
        """The files of the certificate and of its key; empty ones where that is not there, which is noted."""
        certificates = common.mappings("tls_certificates", kinds.TLS_CERTIFICATE)
        self.marks[f"{owner} tls_certificates"] = common.mark("tls_certificates")
        if len(certificates) != 1:
            self._notes.wrong(common.where("tls_certificates"), common.at("tls_certificates"),
                              "one certificate is needed, and no more than one is supported")
            return "", ""
        return (self._data_source(certificates[0], "certificate_chain"),
                self._data_source(certificates[0], "private_key"))

    def _client_certificates(self, context: Fields, common: Fields, owner: str) -> tuple[str, str, bool]:
        """The CA's file, that of what it has revoked, and whether there must be one."""
        validation = common.mapping("validation_context", kinds.CLIENT_VALIDATION)
        ca, crl = self._trusted(validation, owner)
        required = context.scalar("require_client_certificate", units.boolean, False)
        if required and not ca:
            self._notes.wrong(context.where("require_client_certificate"), context.at("require_client_certificate"),
                              "needs the CA's certificate, by which clients' are checked")
        return ca, crl, required

    def _trusted(self, validation: Fields, owner: str) -> tuple[str, str]:
        """The files of the CA and of its revocation lists."""
        found = []
        for name in ("trusted_ca", "crl"):
            source = validation.mapping(name, kinds.DATA_SOURCE)
            found.append(self.file(source.required("filename")) if validation.has(name) else "")
            self.marks[f"{owner} {name}"] = validation.mark(name)
        ca, crl = found
        if crl and not ca:
            self._notes.wrong(validation.where("crl"), validation.at("crl"), "is looked at with a CA only")
        return ca, crl

    def _tls_context(self, fields: Fields, kind: kinds.Kind) -> Fields:
        """Of a transport socket: what stands in starttls, or directly in tls."""
        outer = fields.mapping("transport_socket", kinds.TRANSPORT_SOCKET)
        typed = outer.items.get("typed_config")
        name = outer.required("name")
        if name.endswith("starttls"):
            return Fields(self._notes, typed, outer.at("typed_config"), kinds.START_TLS).mapping(
                "tls_socket_config", kind)
        if not name.endswith("tls"):
            self._notes.wrong(outer.where("name"), outer.at("name"), f"the transport socket {name} is not supported")
        return Fields(self._notes, typed, outer.at("typed_config"), kind)

    def _data_source(self, fields: Fields, name: str) -> str:
        source = fields.mapping(name, kinds.DATA_SOURCE)
        if not fields.has(name):
            self._notes.wrong(fields.node, fields.at(name), "is missing")
            return ""
        return self.file(source.required("filename"))

    # --- clusters -----------------------------------------------------------------------------------------

    def cluster(self, fields: Fields) -> RawCluster:
        endpoints, places, placements = [], [], []
        assignment = fields.mapping("load_assignment", kinds.LOAD_ASSIGNMENT)
        for locality in assignment.mappings("endpoints", kinds.LOCALITY):
            priority = locality.scalar("priority", _priority, 0)
            zone = locality.mapping("locality", kinds.PLACE).text("zone")
            for lb_endpoint in locality.mappings("lb_endpoints", kinds.LB_ENDPOINT):
                address = self.address(lb_endpoint.mapping("endpoint", kinds.ENDPOINT))
                if address is not None and address.path is not None:
                    self._notes.wrong(lb_endpoint.node, lb_endpoint.path, "an upstream's address is a socket_address")
                elif address is not None:
                    endpoints.append(address)
                    placements.append(Placement(weight=lb_endpoint.scalar("load_balancing_weight", _weight, 1),
                                                priority=priority, zone=zone))
                    places.append((Node(lb_endpoint.node.file, lb_endpoint.node.line), lb_endpoint.path))
        name = fields.required("name")
        if not endpoints:
            self._notes.wrong(fields.where("load_assignment"), fields.at("load_assignment"),
                              f"cluster {name!r} has no endpoint")
        return RawCluster(fields, name, fields.choice("type", CLUSTER_TYPES, "STATIC"),
                          fields.scalar("connect_timeout", units.duration, 5.0), endpoints,
                          self._upstream_tls(fields, f"cluster {name}"), places, placements,
                          fields.choice("lb_policy", get_args(LbPolicy), "ROUND_ROBIN"))

    def _upstream_tls(self, fields: Fields, owner: str) -> UpstreamTls:
        if not fields.has("transport_socket"):
            return UpstreamTls()
        context = self._tls_context(fields, kinds.UPSTREAM_TLS)
        common = context.mapping("common_tls_context", kinds.COMMON_TLS)
        certificate, key = self._pair(common, owner) if common.has("tls_certificates") else ("", "")
        validation = common.mapping("validation_context", kinds.VALIDATION)
        ca, crl = self._trusted(validation, owner)
        names = self._exact_names(validation)
        if names and not ca:
            self._notes.wrong(validation.node, validation.path, "names are matched only with a trusted_ca")
        return UpstreamTls(ca=ca or None, san=tuple(names), sni=context.text("sni") or None,
                           params=read_params(common, owner, self.marks), crl=crl or None,
                           certificate=certificate or None, key=key or None)

    def _exact_names(self, validation: Fields) -> list[str]:
        matcher, typed = kinds.STRING_MATCHER, kinds.SAN_MATCHER
        names = [fields.required("exact") for fields in validation.mappings("match_subject_alt_names", matcher)]
        for fields in validation.mappings("match_typed_subject_alt_names", typed):
            fields.choice("san_type", ("DNS", "IP_ADDRESS"), "DNS")
            names.append(fields.mapping("matcher", matcher).required("exact"))
        return [name for name in names if name]


def _weight(text: str) -> int:
    weight = units.integer(text)
    if not 0 < weight <= 1_000_000:
        raise ValueError(f"{weight} is no weight: 1 to 1000000")
    return weight


def _priority(text: str) -> int:
    priority = units.integer(text)
    if not 0 <= priority <= 128:
        raise ValueError(f"{priority} is no priority: 0 (the first) to 128")
    return priority


def _port(text: str) -> int:
    port = units.integer(text)
    if not 0 < port < 65536:
        raise ValueError(f"{port} is not a port")
    return port
