"""Real Envoy, real keeper, gateways of a few lines: who is asked, and who holds the port."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from socket import AF_INET, AF_INET6, AddressFamily

import pytest

from infra.checkout import ROOT
from infra.clouds.local.processes import environ, is_alive
from infra.provider.balancer import BalancerInputs, BalancerKind
from infra.provider.balancer_keeper import EXIT_NO_FILE, EXIT_TAKEN, balancer_alive, refuse_taken
from infra.provider.envoy import Endpoint
from infra.provider.keeping.balancer import gateways
from infra.provider.kind import Incomplete
from runtime.errors import Refused, Unavailable
from runtime.limits import REQUEST_BODY_BYTES
from runtime.serve.api.errors import LEAVING
from tests.infra.clouds.local.planted import Planter, planting
from tests.infra.privileges import without_privileges
from tests.infra.provider.balancer_under_test import PORT, BalancerUnderTest, Gateway
from tests.infra.provider.pool_under_test import until
from tests.infra.provider.said import Said

PARALLEL = 32  # requests open at once: more than Envoy retries without a retry budget
REQUESTS = 200

MakeBalancer = Callable[..., BalancerUnderTest]
MakeGateway = Callable[[], Gateway]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeBalancer]:
    """Makes balancers of random stacks, and leaves nothing of them."""
    made: list[BalancerUnderTest] = []

    def make(**settings: object) -> BalancerUnderTest:
        made.append(BalancerUnderTest(tmp_path / secrets.token_hex(2), **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for balancer in made:
        balancer.stop()
        assert balancer.processes() == []


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BalancerUnderTest]:
    """One for all tests that leave it running, whichever keeper and Envoy they leave."""
    balancer = BalancerUnderTest(tmp_path_factory.mktemp("balancer"))
    yield balancer
    balancer.stop()
    assert balancer.processes() == []


@pytest.fixture(scope="module")
def first(shared: BalancerUnderTest) -> Iterator[Gateway]:
    """A gateway that is known from the beginning."""
    with shared.gateway() as gateway:
        shared.tell(gateway)
        yield gateway


@pytest.fixture
def balancer(shared: BalancerUnderTest, first: Gateway) -> BalancerUnderTest:
    """It runs, and only the first gateway answers."""
    shared.start()
    until_answering(shared, first)
    return shared


@pytest.fixture
def gateway(balancer: BalancerUnderTest) -> Iterator[MakeGateway]:
    """Makes more gateways that listen and are known."""
    with ExitStack() as made:

        def gateway() -> Gateway:
            gateway = made.enter_context(balancer.gateway())
            balancer.tell(gateway)
            return gateway

        yield gateway


@pytest.fixture
def planter() -> Iterator[Planter]:
    with planting() as planter:
        yield planter


def kill(pid: int) -> None:
    """With -9."""
    os.kill(pid, signal.SIGKILL)


def until_answering(balancer: BalancerUnderTest, *gateways: Gateway) -> None:
    """Wait until these gateways answer, and no other does."""
    until(lambda: balancer.answering() == {gateway.node for gateway in gateways})


def keep(folder: Path) -> int:
    """Run a keeper as the provider does; its exit status."""
    argv = [sys.executable, "-P", "-m", "infra.provider.balancer_keeper", str(folder)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, timeout=60, check=False)
    return done.returncode


def test_requests_reach_the_gateways_that_presence_names_as_they_were_sent(
    balancer: BalancerUnderTest, first: Gateway, gateway: MakeGateway
) -> None:
    until_answering(balancer, first, gateway())

    status, said = balancer.ask("/v1/models?a=%20b", b"x" * REQUEST_BODY_BYTES)

    assert status == 200
    assert said.split()[1:] == ["/v1/models?a=%20b", str(REQUEST_BODY_BYTES)]


def test_only_gateways_that_serve_and_have_not_said_goodbye_are_told(tmp_path: Path) -> None:
    balancer = BalancerUnderTest(tmp_path)
    told: list[dict[str, object]] = [
        {},
        {"state": "stopped"},
        {"state": "refused"},
        {"state": "failed"},
        {"port": None},
        {"role": "replica"},
    ]
    with ExitStack() as made:
        each = [made.enter_context(balancer.gateway()) for _ in told]
        for gateway, changes in zip(each, told, strict=True):
            balancer.tell(gateway, **changes)

        found = gateways(balancer.control)

    assert found == [Endpoint(address=each[0].address, port=PORT)]


@pytest.mark.slow
def test_gateways_that_come_and_go_change_the_routing_of_the_same_envoy(
    balancer: BalancerUnderTest, first: Gateway, gateway: MakeGateway
) -> None:
    envoy = balancer.envoy()

    second = gateway()
    until_answering(balancer, first, second)
    balancer.tell(first, state="stopped")
    first.close()
    until(lambda: balancer.hosts() == {second.address})
    first.listen()  # whoever has its address now is no gateway

    assert balancer.answers() == {second.node: 20}
    balancer.tell(first)
    until_answering(balancer, first, second)
    assert balancer.envoy() == envoy


@pytest.mark.slow
def test_what_cannot_be_read_changes_nothing(
    balancer: BalancerUnderTest, first: Gateway, gateway: MakeGateway
) -> None:
    keeper = balancer.keeper()

    balancer.control.put("nodes/gateway-50", b"{}")
    second = gateway()
    log = balancer.file.folder / "keeper.log"
    until(lambda: "gateways not listed" in log.read_text())

    assert set(balancer.answers()) == {first.node}
    balancer.control.delete("nodes/gateway-50")
    until_answering(balancer, first, second)
    assert balancer.keeper() == keeper


@pytest.mark.slow
def test_a_gateway_that_is_not_ready_gets_no_requests(
    balancer: BalancerUnderTest, first: Gateway, gateway: MakeGateway
) -> None:
    other = gateway()
    until_answering(balancer, first, other)

    other.is_ready = False
    until_answering(balancer, first)

    assert balancer.answers(50) == {first.node: 50}
    other.is_ready = True
    until_answering(balancer, first, other)


@pytest.mark.slow
def test_a_gateway_that_dies_while_it_is_asked_costs_no_request(
    balancer: BalancerUnderTest, first: Gateway, gateway: MakeGateway
) -> None:
    dies = gateway()
    until_answering(balancer, first, dies)
    before = dies.asked
    body = b"x" * REQUEST_BODY_BYTES

    dies.dies = True
    with ThreadPoolExecutor(PARALLEL) as threads:
        said = list(threads.map(lambda _: balancer.ask("/", body), range(REQUESTS)))

    assert dies.asked > before, "it was asked, or this proves nothing"
    assert [answer for answer in said if answer[0] != 200] == []
    assert {text.split()[0] for _, text in said} == {first.node}


@pytest.mark.slow
def test_a_gateway_that_is_leaving_is_left_for_another_but_other_refusals_stand(
    balancer: BalancerUnderTest, first: Gateway, gateway: MakeGateway
) -> None:
    leaves = gateway()
    until_answering(balancer, first, leaves)
    before = leaves.asked

    leaves.refuses = {LEAVING: "1"}
    answers = balancer.answers()
    leaves.refuses = {}
    until(lambda: balancer.ask()[0] == 503)

    assert answers == {first.node: 20}
    assert leaves.asked > before, "it was asked, or this proves nothing"


@pytest.mark.slow
def test_envoy_goes_on_without_its_keeper_and_is_taken_over_by_the_next(
    balancer: BalancerUnderTest, first: Gateway, gateway: MakeGateway
) -> None:
    envoy, keeper = balancer.envoy(), balancer.keeper()

    kill(keeper.pid)
    until(lambda: not balancer_alive(balancer.stack_id))
    meanwhile = balancer.answers()
    balancer.start()

    assert meanwhile == {first.node: 20}
    assert balancer.answers() == meanwhile
    assert balancer.envoy() == envoy
    assert balancer.keeper() != keeper
    second = gateway()
    until_answering(balancer, first, second)


def test_an_envoy_that_was_killed_comes_back_with_what_it_knew(
    balancer: BalancerUnderTest, first: Gateway
) -> None:
    envoy = balancer.envoy()

    kill(envoy.pid)
    until(lambda: not is_alive(envoy))

    until_answering(balancer, first)
    assert balancer.envoy() != envoy


def test_another_count_of_gateways_is_kept_by_the_same_envoy(
    balancer: BalancerUnderTest, first: Gateway
) -> None:
    envoy, keeper = balancer.envoy(), balancer.keeper()

    balancer.gateways -= 1
    balancer.start()

    assert balancer.answers() == {first.node: 20}
    assert balancer.envoy() == envoy
    assert balancer.keeper() != keeper
    started = balancer.keeper()
    balancer.start()
    assert balancer.keeper() == started, "nothing changed, nothing is started anew"


def test_another_port_is_listened_on_instead(balancer: BalancerUnderTest, first: Gateway) -> None:
    before = balancer.port

    balancer.port += 1
    balancer.start()

    until_answering(balancer, first)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((balancer.address, before), 5)


def test_a_port_that_cannot_be_had_leaves_the_one_that_is_listened_on(
    balancer: BalancerUnderTest, first: Gateway, planter: Planter
) -> None:
    envoy = balancer.envoy()
    pid, taken = planter.listen(AF_INET, balancer.address, {})
    before, balancer.port = balancer.port, taken

    with pytest.raises(Refused, match=f"pid {pid}"):
        balancer.start()

    balancer.port = before
    assert balancer.answers() == {first.node: 20}
    assert balancer.envoy() == envoy
    assert balancer_alive(balancer.stack_id)


def test_all_addresses_are_listened_on_instead_of_the_own_one(
    make: MakeBalancer, planter: Planter
) -> None:
    _, port = planter.listen(AF_INET, "0.0.0.0", {})
    planter.close()  # so that the port is free, everywhere
    balancer = make(port=port)
    balancer.start()
    before = balancer.envoy()

    own, balancer.address = balancer.address, "0.0.0.0"
    balancer.start()

    assert balancer.envoy() != before
    socket.create_connection((own, port), 5).close()
    socket.create_connection(("127.0.0.1", port), 5).close()


@pytest.mark.parametrize("left", ["all", "no keeper", "no folder", "neither"])
def test_stopping_leaves_nothing(make: MakeBalancer, left: str) -> None:
    balancer = make()
    balancer.start()
    processes = balancer.processes()
    if left in {"no keeper", "neither"}:
        kill(balancer.keeper().pid)
    if left in {"no folder", "neither"}:
        shutil.rmtree(balancer.home)

    balancer.stop()

    assert len(processes) == 2
    assert not any(is_alive(process) for process in processes)
    assert balancer.ask()[0] == 0
    balancer.stop()  # nothing to stop is no fault


def test_a_wait_that_is_cancelled_ends_at_once(make: MakeBalancer) -> None:
    balancer, cancelled = make(), threading.Event()
    cancelled.set()

    with pytest.raises(Unavailable, match="cancelled"):
        balancer.start(cancelled)

    balancer.start()
    assert len(balancer.processes()) == 2


@pytest.mark.parametrize(
    ("asked", "family", "taken"),
    [
        ("127.254.8.8", AF_INET, "127.254.8.8"),
        ("127.254.8.8", AF_INET, "0.0.0.0"),
        ("0.0.0.0", AF_INET, "127.254.8.8"),
        ("127.254.8.8", AF_INET6, "::"),
        ("127.254.8.8", AF_INET6, "::ffff:127.254.8.8"),
    ],
)
def test_a_port_that_is_taken_is_refused_with_its_holder(
    planter: Planter, asked: str, family: AddressFamily, taken: str
) -> None:
    pid, port = planter.listen(family, taken, {})

    with pytest.raises(Refused, match=rf"{asked}:{port}: found it taken by pid {pid}, .*python"):
        refuse_taken(asked, port)


def test_a_holder_of_another_stack_is_named_with_its_stack(
    balancer: BalancerUnderTest, make: MakeBalancer
) -> None:
    other = make(address=balancer.address, port=balancer.port, stack="other")

    with pytest.raises(Refused) as raised:
        other.start()

    assert f"pid {balancer.envoy().pid}" in str(raised.value)
    assert f"stack test of {balancer.home}" in str(raised.value)
    assert other.processes() == []
    assert not other.file.folder.exists()


def test_a_port_beside_one_that_is_taken_is_not_refused(planter: Planter) -> None:
    _, port = planter.listen(AF_INET, "127.254.8.8", {})

    refuse_taken("127.254.8.9", port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(Refused, match=r"192\.0\.2\.1:8080: this machine has no such address"):
        refuse_taken("192.0.2.1", 8080)


@pytest.mark.skipif(
    int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) < 1024,
    reason="everybody may listen on low ports here",
)
def test_a_port_that_only_root_may_have_is_refused_to_others() -> None:
    with without_privileges(), pytest.raises(Refused, match="choose a port above 1023"):
        refuse_taken("127.254.8.8", 1023)


def test_of_two_keepers_one_leaves(balancer: BalancerUnderTest, tmp_path: Path) -> None:
    before = balancer.processes()

    assert keep(balancer.file.folder) == EXIT_TAKEN
    assert keep(tmp_path) == EXIT_NO_FILE
    assert balancer.processes() == before


def test_the_resource_is_there_until_it_is_deleted(
    make: MakeBalancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "a secret of the shell that ran up")
    said, balancer, kind = Said(), make(), BalancerKind()
    known = balancer.file.model_dump(exclude={"address", "python"})
    inputs = BalancerInputs.model_validate(known)

    resource_id, computed = kind.create(inputs, said.context)

    assert resource_id == f"{balancer.stack_id}/balancer"
    assert computed == {"url": f"http://{balancer.address}:{PORT}"}
    assert said.lines == [f"listens on {computed['url']}"]
    assert kind.read(inputs, computed)
    for process in balancer.processes():
        assert environ(process.pid)["ATOLL_STACK_ID"] == balancer.stack_id
        assert "PULUMI_CONFIG_PASSPHRASE" not in environ(process.pid)

    moved = inputs.model_copy(update={"port": PORT + 1})
    assert kind.update(moved, computed, said.context) == {
        "url": f"http://{balancer.address}:{PORT + 1}"
    }
    assert balancer.ask()[0] == 0

    kill(balancer.keeper().pid)
    until(lambda: not kind.read(moved, computed))
    kind.delete(moved, computed, said.context)
    assert balancer.processes() == []
    assert not balancer.file.folder.exists()
    kind.delete(moved, computed, said.context)


def test_a_resource_that_does_not_listen_yet_is_kept_in_the_state(make: MakeBalancer) -> None:
    said, balancer = Said(), make()
    said.cancelled.set()
    inputs = BalancerInputs.model_validate(balancer.file.model_dump(exclude={"python"}))

    with pytest.raises(Incomplete) as raised:
        BalancerKind().create(inputs, said.context)

    assert raised.value.resource_id == f"{balancer.stack_id}/balancer"
    assert raised.value.outputs == {"url": f"http://{balancer.address}:{PORT}"}
