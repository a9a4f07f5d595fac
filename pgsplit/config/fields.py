"""The fields of Envoy's objects: which are read, which are ignored, which are refused, as data.

Ignored: what changes nothing about who may do what and where statements go. Refused: what would be unsafe to ignore.
What is in neither list is a mistake.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Kind:
    """An object of the configuration. *refused*: field -> why."""

    name: str
    read: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{'an' if self.name.startswith(('a', 'e', 'i', 'o', 'up')) else 'a'} {self.name}"


BOOTSTRAP: Final = Kind(
    "configuration", ("static_resources", "admin", "pgsplit"),
    ("node", "stats_config", "stats_sinks", "stats_flush_interval", "watchdogs", "watchdog", "overload_manager",
     "layered_runtime", "cluster_manager", "flags_path", "tracing", "default_socket_interface"),
    {"dynamic_resources": "pgsplit is configured by this file only",
     "hds_config": "health comes from pgsplit's checks"})
SHORT: Final = Kind(
    "configuration", ("listen", "servers", "primary", "replicas", "users", "users_file", "monitor", "tls",
                      "upstream_tls", "ca", "user_maps", "admin", "consistency", "topology", "lb_policy", "pgsplit"))
SERVER: Final = Kind("server", ("address", "weight", "priority", "zone"))
STATIC: Final = Kind("static_resources", ("listeners", "clusters"), (),
                     {"secrets": "give certificates as files in the tls contexts"})
LISTENER: Final = Kind(
    "listener", ("name", "address", "additional_addresses", "filter_chains"),
    ("access_log", "per_connection_buffer_limit_bytes", "stat_prefix", "traffic_direction", "socket_options",
     "tcp_backlog_size", "enable_reuse_port", "reuse_port", "metadata", "drain_type", "deprecated_v1",
     "connection_balance_config", "listener_filters_timeout", "transparent", "freebind", "tcp_fast_open_queue_length"),
    {"listener_filters": "what they would find out or change about a connection is not done here",
     "default_filter_chain": "one filter chain is read", "use_original_dst": "pgsplit listens for itself"})
FILTER_CHAIN: Final = Kind(
    "filter chain", ("filters", "transport_socket"), ("name", "metadata", "transport_socket_connect_timeout"),
    {"filter_chain_match": "every connection would be served, also those that do not match",
     "use_proxy_proto": "client addresses are the connection's own"})
FILTER: Final = Kind("filter", ("name", "typed_config"), ("config_discovery",))
POSTGRES_PROXY: Final = Kind(
    "postgres_proxy", ("@type", "stat_prefix", "enable_sql_parsing", "terminate_ssl", "upstream_ssl", "downstream_ssl",
                       "split_rw", "write_cluster_name", "user_list", "user_list_file"))
TCP_PROXY: Final = Kind(
    "tcp_proxy", ("@type", "stat_prefix", "cluster"),
    ("access_log", "idle_timeout", "max_connect_attempts", "access_log_flush_interval", "access_log_options",
     "flush_access_log_on_connected", "upstream_idle_timeout", "downstream_idle_timeout"),
    {"weighted_clusters": "one read cluster is used", "tunneling_config": "tunnels are not done",
     "hash_policy": "hosts are taken in turn", "max_downstream_connection_duration": "sessions are not cut by age",
     "metadata_match": "all hosts of the cluster are used"})
TRANSPORT_SOCKET: Final = Kind("transport socket", ("name", "typed_config"))
START_TLS: Final = Kind("starttls", ("@type", "tls_socket_config", "cleartext_socket_config"))
DOWNSTREAM_TLS: Final = Kind(
    "downstream tls context", ("@type", "common_tls_context", "require_client_certificate"),
    ("session_ticket_keys", "disable_stateless_session_resumption", "session_timeout", "ocsp_staple_policy"),
    {"require_sni": "SNI is not checked"})
UPSTREAM_TLS: Final = Kind("upstream tls context", ("@type", "common_tls_context", "sni"),
                           ("allow_renegotiation", "max_session_keys", "enforce_rsa_key_usage", "auto_host_sni"))
COMMON_TLS: Final = Kind(
    "common_tls_context", ("tls_certificates", "validation_context", "tls_params"), ("alpn_protocols", "key_log"),
    {"tls_certificate_sds_secret_configs": "give the certificate as files",
     "validation_context_sds_secret_config": "give the CA as a file",
     "combined_validation_context": "give validation_context"})
TLS_PARAMS: Final = Kind(
    "tls_params", ("tls_minimum_protocol_version", "tls_maximum_protocol_version", "cipher_suites", "ecdh_curves"), (),
    {"signature_algorithms": "they would not be obeyed", "compliance_policies": "they would not be obeyed"})
TLS_CERTIFICATE: Final = Kind("tls certificate", ("certificate_chain", "private_key"), ("ocsp_staple",),
                              {"password": "encrypted keys are not read"})
_NOT_CHECKED: Final = {
    "verify_certificate_hash": "it would not be checked", "verify_certificate_spki": "it would not be checked",
    "custom_validator_config": "it would not be used"}
VALIDATION: Final = Kind(
    "validation_context", ("trusted_ca", "crl", "match_typed_subject_alt_names", "match_subject_alt_names"), (),
    _NOT_CHECKED)
CLIENT_VALIDATION: Final = Kind(
    "validation_context of a listener", ("trusted_ca", "crl"), (),
    _NOT_CHECKED | dict.fromkeys(("match_typed_subject_alt_names", "match_subject_alt_names"),
                                 "names of clients are not checked"))
CLUSTER: Final = Kind(
    "cluster", ("name", "connect_timeout", "type", "lb_policy", "load_assignment", "transport_socket"),
    ("dns_lookup_family", "dns_refresh_rate", "respect_dns_ttl", "alt_stat_name", "circuit_breakers",
     "per_connection_buffer_limit_bytes", "health_checks", "outlier_detection", "upstream_connection_options",
     "metadata", "common_lb_config", "cleanup_interval", "dns_failure_refresh_rate", "typed_dns_resolver_config",
     "upstream_bind_config", "typed_extension_protocol_options"),
    {"eds_cluster_config": "hosts are given in load_assignment", "transport_socket_matches": "one transport is used",
     "lb_subset_config": "all hosts of the cluster are used"})
LOAD_ASSIGNMENT: Final = Kind("load_assignment", ("cluster_name", "endpoints"), ("policy",))
LOCALITY: Final = Kind("endpoints", ("lb_endpoints", "locality", "priority"), ("load_balancing_weight",))
PLACE: Final = Kind("locality", ("zone",), ("region", "sub_zone"))
LB_ENDPOINT: Final = Kind("lb_endpoint", ("endpoint", "load_balancing_weight"), ("health_status", "metadata"))
ENDPOINT: Final = Kind("endpoint", ("address",), ("hostname", "health_check_config"))
ADMIN: Final = Kind("admin", ("address",), ("access_log", "access_log_path", "profile_path", "socket_options"))
TOPOLOGY: Final = Kind("topology block", ("source", "patroni", "ca", "certificate", "key", "username", "password"))
USER: Final = Kind("user", ("username", "password", "clientname", "map", "upstream_password"))
ADDRESS: Final = Kind("address", ("socket_address", "pipe"))
ADDITIONAL_ADDRESS: Final = Kind("additional address", ("address",), ("socket_options",))
SOCKET_ADDRESS: Final = Kind("socket_address", ("address", "port_value"), ("protocol", "ipv4_compat", "resolver_name"))
PIPE: Final = Kind("pipe", ("path",), ("mode",))
DATA_SOURCE: Final = Kind(
    "data source", ("filename",), (),
    dict.fromkeys(("inline_string", "inline_bytes", "environment_variable"), "give a file name"))
STRING_MATCHER: Final = Kind(
    "string matcher", ("exact",), (),
    dict.fromkeys(("prefix", "suffix", "safe_regex", "contains", "ignore_case"), "names are matched exactly"))
SAN_MATCHER: Final = Kind("subject alt name matcher", ("san_type", "matcher"))
