"""Envoy's configuration, as a value. Pure.

Settings were measured under kill -9 and SIGSTOP of an upstream: plain retries still lost a quarter
of the requests, since Envoy allows three parallel retries per cluster by default and keeps choosing
a dead host that has no active requests. With a retry budget, ejection and retries on another host
none was lost.
Fields: envoyproxy.io/docs/envoy/v1.40 api-v3, read 2026-11.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runtime.limits import READY_CHECK_S, READY_CHECKS_DOWN, REQUEST_BODY_BYTES

ADMIN_SOCKET = "admin.sock"  # below Envoy's folder, for its user alone: who has it can end Envoy
CONNECT_S = 1
EJECT_S = 2
HEADERS_S = 10  # a client that sends its headers slower than this is closed
STREAM_IDLE_S = 300  # pings every few seconds keep a live stream far from this
FIRST_BYTE_S = 120  # a gateway that says nothing for this long is tried no longer
# A gateway that was killed is up again within seconds, and with two of them the other one may have
# been out for a second too: in ten tries with growing pauses two seconds go by.
RETRIES = 10
RETRY_S_MIN = 0.025
RETRY_S_MAX = 0.5
LEAVING = "x-atoll-leaving"  # as the gateway says it (runtime/serve/api/errors.py)
RETRIES_PARALLEL_MIN = 64  # as many as one gateway may have open when it dies
RETRY_PERCENT = 50
BUFFER_BYTES = 2 * REQUEST_BODY_BYTES

assert BUFFER_BYTES > REQUEST_BODY_BYTES, "a request is sent again from this buffer"

Config = dict[str, object]
HTTP_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
ROUTER = "envoy.extensions.filters.http.router.v3.Router"
PREVIOUS_HOSTS = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
ENDPOINTS = "envoy.config.endpoint.v3.ClusterLoadAssignment"
CLUSTER = "gateways"


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Endpoint:
    """A gateway as Envoy reaches it."""

    address: str
    port: int


def envoy_config(stack_id: str, listen: Endpoint, endpoints: Path) -> Config:
    """The whole bootstrap; upstreams come from the watched file `endpoints`."""
    return {
        "node": {"id": "balancer", "cluster": stack_id},
        "admin": {"address": {"pipe": {"path": ADMIN_SOCKET, "mode": 0o600}}},
        "static_resources": {
            "listeners": [_listener(listen)],
            "clusters": [_cluster(endpoints)],
        },
    }


def endpoints_config(endpoints: Iterable[Endpoint]) -> Config:
    """Content of the watched file; its path must end in .json or .yaml for Envoy to parse it."""
    listed = [{"endpoint": {"address": _socket(e)}} for e in endpoints]
    assignment = {
        "@type": f"type.googleapis.com/{ENDPOINTS}",
        "cluster_name": CLUSTER,
        "endpoints": [{"lb_endpoints": listed}],
    }
    return {"resources": [assignment]}


def _socket(endpoint: Endpoint) -> Config:
    return {"socket_address": {"address": endpoint.address, "port_value": endpoint.port}}


def _typed(kind: str, **fields: object) -> Config:
    return {"@type": f"type.googleapis.com/{kind}", **fields}


def _listener(listen: Endpoint) -> Config:
    manager = _typed(
        HTTP_MANAGER,
        stat_prefix="endpoint",
        server_header_transformation="PASS_THROUGH",
        delayed_close_timeout="0.1s",  # a cut stream reaches its client at once, not after 1 s
        request_headers_timeout=f"{HEADERS_S}s",
        stream_idle_timeout=f"{STREAM_IDLE_S}s",
        route_config={"virtual_hosts": [_virtual_host()]},
        http_filters=[
            {
                "name": "envoy.filters.http.router",
                "typed_config": _typed(ROUTER, suppress_envoy_headers=True),
            }
        ],
    )
    chain = {
        "filters": [{"name": "envoy.http_connection_manager", "typed_config": manager}],
    }
    return {
        "name": "endpoint",
        "address": _socket(listen),
        "enable_reuse_port": False,  # else two balancers could listen on one port, unknown to both
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "filter_chains": [chain],
    }


def _virtual_host() -> Config:
    retry = {
        # Not every 503: a gateway without a replica has tried for itself, and says so at once.
        "retry_on": "connect-failure,refused-stream,reset,retriable-headers",
        "retriable_headers": [{"name": LEAVING, "present_match": True}],
        "num_retries": RETRIES,
        "per_try_idle_timeout": f"{FIRST_BYTE_S}s",
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": _typed(PREVIOUS_HOSTS),
            }
        ],
        "host_selection_retry_max_attempts": 3,
        "retry_back_off": {
            "base_interval": f"{RETRY_S_MIN}s",
            "max_interval": f"{RETRY_S_MAX}s",
        },
    }
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster": CLUSTER, "timeout": "0s", "retry_policy": retry},
    }
    return {"name": "all", "domains": ["*"], "routes": [route]}


def _cluster(endpoints: Path) -> Config:
    source = {"path": str(endpoints), "watched_directory": {"path": str(endpoints.parent)}}
    http1 = _typed(
        HTTP_OPTIONS,
        explicit_http_config={"http_protocol_options": {}},
        common_http_protocol_options={"idle_timeout": "30s"},
    )
    return {
        "name": CLUSTER,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": {"path_config_source": source}},
        "connect_timeout": f"{CONNECT_S}s",
        "lb_policy": "LEAST_REQUEST",
        # Only when no gateway is ready is one asked that is not: its answer says why.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1.0}},
        "health_checks": [_health_check()],
        "outlier_detection": _outlier_detection(),
        "circuit_breakers": {"thresholds": [_breaker()]},
        "typed_extension_protocol_options": {HTTP_OPTIONS: http1},
    }


def _health_check() -> Config:
    return {
        "timeout": f"{READY_CHECK_S}s",
        "interval": f"{READY_CHECK_S}s",
        "no_traffic_interval": f"{READY_CHECK_S}s",
        "unhealthy_threshold": READY_CHECKS_DOWN,
        "healthy_threshold": 1,
        "http_health_check": {"path": "/readyz"},
    }


def _outlier_detection() -> Config:
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 2,
        "interval": "0.5s",
        "base_ejection_time": f"{EJECT_S}s",
        "max_ejection_percent": 67,
    }


def _breaker() -> Config:
    return {
        "max_connections": 4096,
        "max_pending_requests": 4096,
        "max_requests": 4096,
        "retry_budget": {
            "budget_percent": {"value": RETRY_PERCENT},
            "min_retry_concurrency": RETRIES_PARALLEL_MIN,
        },
    }
