"""What becomes of each setting of pgpool.conf, but for those that `pgpool` reads together, by all its names."""

from __future__ import annotations

from typing import Final

from .draft import Draft
from .rules import Rule, duration, is_off, is_on, nothing, number, other, size, taken
from .source import Entry

CACHE: Final = "there is no cache of answers: each is a server's, and fresh"
ONE_PROCESS: Final = ("pgsplit is one process group on one machine: two of them behind a virtual address (keepalived), "
                      "or a Service of Kubernetes, take the watchdog's place")
PROMOTES: Final = ("pgsplit promotes nobody: Patroni, repmgr or a script does, and pgsplit finds out who is the "
                   "primary, or asks Patroni (topology)")
PCP: Final = "the admin page (admin: 127.0.0.1:8432), its API and the console take the place of pcp"
POOL: Final = "pgsplit is not a pool: a session keeps its connections, and no two share one"
REPLICATES: Final = "PostgreSQL replicates: pgsplit sends a write to the primary alone"
LOGS: Final = "the log goes to standard error, which systemd keeps, or to log_file; the page shows each statement's way"
WORKERS: Final = "workers: N says how many processes there are, by default one a core"
CATALOGUE: Final = "definitions are read again as they change (catalogue)"
HEALTH: Final = ("each server is asked each second (health_interval), with 3 s to answer (health_timeout), and is out "
                 "at the first miss: a failover is seen by it, so that longer times are not taken over")
DATABASE: Final = "the monitor asks in the database postgres; monitor: {username, database} names another"
BACK: Final = "a server that fails is left, asked again, and comes back by itself"
PAST: Final = "is of a version that is long past, and nothing of the kind is here"
HINT: Final = "a statement is sent to the primary by the comment /* pgsplit: primary */, a session by SET pgsplit.route"
REDIRECT: Final = (f"there are no preferences by user, database or application: {HINT}. A second listener in Envoy's "
                   "form may have other settings")
OFF: Final = "is off, and there is nothing of the kind here"
SAFE: Final = "is always so here"


def load_balance_mode(draft: Draft, entry: Entry) -> None:
    if is_on(entry.value):
        return draft.taken(entry, "", text="reads go to replicas that are known to be fresh")
    return draft.other(entry, "all statements went to the primary; here reads go to replicas. Envoy's form without "
                              "split_rw sends all to one cluster", loud=True)


def after_writes(draft: Draft, entry: Entry) -> None:
    """disable_load_balance_on_write."""
    texts = {
        "off": "reads behind a write in a transaction stay on the primary here: they see it",
        "transaction": "is transactions: until_write, the default: behind a transaction's first write all stays on the "
                       "primary",
        "trans_transaction": "later transactions read on replicas again, once those have replayed the write",
        "always": "a session reads on replicas again once those have replayed what it wrote, and what others wrote "
                  "(consistency: global)",
        "dml_adaptive": "what a view, trigger or function reads and writes is known from the catalogue, and reads wait "
                        "for what was written",
        "dml_adaptive_global": "what a view, trigger or function reads and writes is known from the catalogue, and "
                               "reads wait for what was written (consistency: global)",
    }
    if entry.value not in texts:
        return draft.wrong(entry, f"is not one of {', '.join(texts)}")
    return draft.other(entry, texts[entry.value])


def messages(draft: Draft, entry: Entry) -> None:
    """log_min_messages."""
    if entry.value.lower().startswith("debug"):
        return draft.taken(entry, "log_level", "debug")
    return draft.nothing(entry, "log_level: info is the default: what happens to servers and sessions")


_LOGS: Final = ("log_destination", "log_line_prefix", "log_hostname", "log_statement", "log_per_node_statement",
                "notice_per_node_statement", "log_client_messages", "log_backend_messages", "log_standby_delay",
                "syslog_facility", "syslog_ident", "log_error_verbosity", "client_min_messages", "logging_collector",
                "log_directory", "log_filename", "log_file_mode", "log_truncate_on_rotation", "log_rotation_age",
                "log_rotation_size", "log_connections", "log_disconnections", "log_pcp_processes", "logdir",
                "debug_level", "print_timestamp", "print_user")
_WATCHDOG: Final = ("use_watchdog", "trusted_servers", "trusted_server_command", "ping_path", "hostname",
                    "wd_hostname", "wd_port", "pgpool_port", "wd_listen_address", "wd_listen_port", "wd_priority",
                    "wd_authkey", "wd_ipc_socket_dir", "delegate_ip", "delegate_IP", "if_cmd_path", "if_up_cmd",
                    "if_down_cmd", "ifconfig_path", "arping_path", "arping_cmd", "clear_memqcache_on_escalation",
                    "wd_escalation_command", "wd_de_escalation_command", "failover_when_quorum_exists",
                    "failover_require_consensus", "allow_multiple_failover_requests_from_node",
                    "enable_consensus_with_half_votes", "wd_remove_shutdown_nodes", "wd_lost_node_removal_timeout",
                    "wd_no_show_node_removal_timeout", "wd_monitoring_interfaces_list", "wd_lifecheck_method",
                    "wd_interval", "heartbeat_hostname", "heartbeat_port", "heartbeat_device",
                    "heartbeat_destination", "heartbeat_destination_port", "wd_heartbeat_port",
                    "wd_heartbeat_listen_addresses", "wd_heartbeat_listen_port", "wd_heartbeat_keepalive",
                    "wd_heartbeat_deadtime", "wd_life_point", "wd_lifecheck_query", "wd_lifecheck_dbname",
                    "wd_lifecheck_user", "wd_lifecheck_password", "other_pgpool_hostname", "other_pgpool_port",
                    "other_wd_port")
_FAILOVER: Final = ("failover_command", "failback_command", "follow_primary_command", "follow_master_command",
                    "search_primary_node_timeout", "recovery_user", "recovery_password", "recovery_database",
                    "recovery_1st_stage_command", "recovery_2nd_stage_command", "recovery_timeout",
                    "client_idle_limit_in_recovery")
_CACHE: Final = ("memory_cache_enabled", "memqcache_method", "memqcache_memcached_host", "memqcache_memcached_port",
                 "memqcache_total_size", "memqcache_max_num_cache", "memqcache_expire",
                 "memqcache_auto_cache_invalidation", "memqcache_maxcache", "memqcache_cache_block_size",
                 "memqcache_oiddir", "cache_safe_memqcache_table_list", "cache_unsafe_memqcache_table_list",
                 "white_memqcache_table_list", "black_memqcache_table_list")
_POOL: Final = ("max_pool", "child_life_time", "child_max_connections", "connection_life_time", "connection_cache",
                "reset_query_list")
_PROCESSES: Final = ("process_management_mode", "process_management_strategy", "min_spare_children",
                     "max_spare_children", "serialize_accept", "reserved_connections")
_REPLICATES: Final = ("replicate_select", "insert_lock", "lobj_lock_table", "replication_stop_on_mismatch",
                      "failover_if_affected_tuples_mismatch", "replication_timeout")
_PCP: Final = ("pcp_listen_addresses", "pcp_port", "pcp_socket_dir", "pcp_timeout")
_RELCACHE: Final = ("relcache_expire", "relcache_size", "enable_shared_relcache", "relcache_query_target",
                    "check_temp_table", "check_unlogged_table")
_HEALTH: Final = ("health_check_period", "health_check_timeout", "health_check_max_retries",
                  "health_check_retry_delay", "sr_check_period")
_PAST: Final = ("parallel_mode", "enable_query_cache", "system_db_hostname", "system_db_port", "system_db_dbname",
                "system_db_schema", "system_db_user", "system_db_password", "pgpool2_hostname", "backend_socket_dir",
                "health_check_test")
_MUTATIONS: Final = ("track_table_mutation_ttl_factor", "track_table_mutation_max_staleness",
                     "track_table_mutation_cold_start_duration", "track_table_mutation_table_buckets",
                     "track_table_mutation_table_size", "dml_adaptive_object_relationship_list")

RULES: Final[dict[str, Rule]] = {
    **dict.fromkeys(_LOGS, nothing(LOGS)),
    **dict.fromkeys(_WATCHDOG, nothing(ONE_PROCESS)),
    **dict.fromkeys(_FAILOVER, other(PROMOTES, OFF)),
    **dict.fromkeys(_CACHE, nothing(CACHE)),
    **dict.fromkeys(_POOL, nothing(POOL)),
    **dict.fromkeys(_PROCESSES, nothing(WORKERS)),
    **dict.fromkeys(_REPLICATES, nothing(REPLICATES)),
    **dict.fromkeys(_PCP, nothing(PCP)),
    **dict.fromkeys(_RELCACHE, nothing(CATALOGUE)),
    **dict.fromkeys(_HEALTH, other(HEALTH)),
    **dict.fromkeys(_PAST, nothing(PAST)),
    "sr_check_database": other(DATABASE),
    "health_check_database": other(DATABASE, "names none"),
    "connect_timeout": nothing("5 s; connect_timeout of a cluster in Envoy's form is another"),
    **dict.fromkeys(_MUTATIONS, nothing("a read waits for all that was written, whichever tables (consistency: "
                                        "global)")),
    "use_watchdog": other(ONE_PROCESS, OFF, loud=True),
    "delegate_ip": other(ONE_PROCESS, "names no address", loud=True),
    "delegate_IP": other(ONE_PROCESS, "names no address", loud=True),
    "memory_cache_enabled": other(CACHE, OFF),
    "failover_command": other(PROMOTES, "names no command", loud=True),
    "failover_on_backend_error": nothing(BACK),
    "fail_over_on_backend_error": nothing(BACK),
    "auto_failback": nothing(BACK),
    "auto_failback_interval": nothing(BACK),
    "failover_on_backend_shutdown": nothing("a server that shuts down is left at once, and comes back by itself"),
    "detach_false_primary": other("a server out of recovery that is not the primary gets nothing, always"),
    "authentication_timeout": taken("client_login_timeout", duration("s"), off="is off; client_login_timeout: 60s "
                                                                               "here"),
    "allow_clear_text_frontend_auth": nothing("PostgreSQL says how a client proves itself"),
    "enable_pool_hba": other("the servers' own pg_hba.conf decides who gets in: it sees pgsplit's address in place of "
                             "the client's, so rules by address go to a firewall",
                             "the servers' own pg_hba.conf decides who gets in, as before"),
    "num_init_children": taken("max_connections", number, "pgpool-II let more clients wait; one more is refused "
                                                          "(53300) here. Each takes a connection to the primary, and "
                                                          "one to a replica once it reads"),
    "listen_backlog_multiplier": nothing("backlog: 2048 connections may wait to be accepted"),
    "client_idle_limit": other("the server has it: idle_session_timeout, by ALTER ROLE or ALTER DATABASE … SET", OFF),
    "unix_socket_group": other("pgsplit's sockets have mode 0777, and the login decides: the socket's directory may "
                               "say who reaches it", "the login decides who gets in"),
    "unix_socket_permissions": other("pgsplit's sockets have mode 0777, and the login decides: the socket's directory "
                                     "may say who reaches it"),
    "log_min_messages": messages,
    "pid_file_name": other("not taken over, so that the two do not write into one file: pidfile names one"),
    "work_dir": nothing("run_dir is where the processes meet"),
    "load_balance_mode": load_balance_mode,
    "ignore_leading_white_space": nothing(SAFE),
    "statement_level_load_balance": other("a session keeps its replica while that may be used: what it has seen there "
                                          "it never sees undone", "a session keeps its replica here, too"),
    "allow_sql_comments": other(f"a comment changes nothing here, but for hints: {HINT}. /*NO LOAD BALANCE*/ means "
                                "nothing",
                                "a comment changes nothing here: what one kept on the primary goes to replicas. "
                                f"{HINT}",
                                loud=True),
    "primary_routing_query_pattern_list": other(f"texts are not matched: {HINT}; primary_functions lists functions",
                                                "names nothing", loud=True),
    "user_redirect_preference_list": other(REDIRECT, "names nothing", loud=True),
    "database_redirect_preference_list": other(REDIRECT, "names nothing", loud=True),
    "app_name_redirect_preference_list": other(REDIRECT, "names nothing", loud=True),
    "disable_load_balance_on_write": after_writes,
    "delay_threshold": taken("max_lag_bytes", size, "a replica comes back when it is half as far behind; and a read "
                                                    "waits for what was written, whatever the "
                                                    "lag", off="is off, as max_lag_bytes is"),
    "delay_threshold_by_time": taken("max_lag", duration("ms"), "and a read waits for what was written, whatever the "
                                                                "lag",
                                     off="is off, as max_lag is"),
    "prefer_lower_delay_standby": nothing("a session leaves a replica that lags too far, and reads on one that is "
                                          "fresh"),
    "replication_delay_source_cmd": other("the servers are asked for their positions", "the servers are asked for "
                                                                                       "their positions"),
    "replication_delay_source_timeout": nothing("the servers are asked for their positions"),
    "ssl_prefer_server_ciphers": nothing("OpenSSL's own choice holds"),
    "ssl_dh_params_file": nothing("TLS 1.2 and newer by ECDHE"),
    "auto_reattach": nothing(BACK),
}


def is_mode(value: str) -> bool:
    """Whether backend_clustering_mode is streaming replication's."""
    return is_off(value) or value.strip() == "streaming_replication"
