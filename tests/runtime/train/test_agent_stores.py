"""Training while its store is slow, lies or is away: the run goes on, and no step is lost."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.doubles.fault_proxy import Fault, FaultProxy, Kind, drawn
from tests.doubles.store_servers import environment, options, seaweedfs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runtime.train.conftest import Rig

pytestmark = pytest.mark.slow

AWAY_S = 60.0
PAUSED_S = 5.0


@pytest.fixture
def proxy(rig: Rig) -> Iterator[FaultProxy]:
    """Between the nodes and their stores; the test has its own way there."""
    with seaweedfs() as server, FaultProxy(server.host, server.port) as proxy:
        rig.bucket = f"{server.url}/{rig.stack_id}"
        rig.env = environment(server.scheme, proxy.url)
        rig.options = options(server.scheme, f"http://{server.host}:{server.port}")
        yield proxy
        rig.stop()  # before their store


def test_a_store_that_is_away_for_a_minute_costs_no_process_and_no_step(
    rig: Rig, proxy: FaultProxy
) -> None:
    rig.spec = rig.spec.model_copy(update={"steps": 1_000_000})
    rig.train(0, 1)
    workers = [rig.nodes[index].worker_pid() for index in (0, 1)]
    before = rig.step()

    proxy.down()
    time.sleep(AWAY_S)  # what is tested is that much time
    proxy.up()
    rig.wait(lambda: rig.step() > before, "presence is back")
    after = rig.step()
    rig.wait(lambda: rig.step() > after + 30, "steps go on")

    assert after > before + 30  # it trained meanwhile
    assert [rig.nodes[index].worker_pid() for index in (0, 1)] == workers
    assert len(rig.epochs()) == 1
    rig.wait(lambda: len(rig.metrics(0)) > after, "figures of all steps")
    steps = [line["step"] for line in rig.metrics(0) if "loss" in line]
    assert steps == [*range(1, len(steps) + 1)]


def test_a_store_that_is_away_for_too_long_pauses_the_run_until_it_is_back(
    rig: Rig, proxy: FaultProxy
) -> None:
    rig.spec = rig.spec.model_copy(update={"steps": 1_000_000, "unsaved_s_max": 3.0})
    rig.train(0, 1)

    proxy.down()
    rig.wait(lambda: "training is paused" in rig.logs(), "it says so")
    paused_at = time.time()
    time.sleep(PAUSED_S)
    back_at = time.time()
    proxy.up()
    rig.wait(lambda: steps_after(rig, back_at) >= 30, "steps go on")

    assert len(rig.epochs()) == 1
    lines = [line for line in rig.metrics(0) if "loss" in line]
    assert [line["step"] for line in lines] == [*range(1, len(lines) + 1)]
    assert [line for line in lines if paused_at + 1 < line["at"] < back_at] == []


def steps_after(rig: Rig, at: float) -> int:
    """How many steps of the first epoch were applied since then, as its figures tell."""
    lines = rig.metrics(0) if rig.has_metrics(0) else []
    return sum("loss" in line and line["at"] > at for line in lines)


@pytest.mark.parametrize(
    "fault",
    [Fault(delay_s=0.5), Fault(Kind.LOSE_ANSWER), Fault(Kind.BUSY), Fault(Kind.RESET)],
    ids=["slow", "lies", "busy", "resets"],
)
def test_a_run_over_a_bad_store_is_published_whole(
    rig: Rig, proxy: FaultProxy, seed: int, fault: Fault
) -> None:
    rig.spec = rig.spec.model_copy(update={"steps": 200})
    share = 1.0 if fault.kind is Kind.NONE else 0.2
    proxy.set(drawn(seed, [replace(fault)], share))
    rig.claim()
    rig.start(0)
    rig.start(1)

    entry = rig.wait_end()

    assert entry.outcome == "published", rig.logs()
    steps = [
        line["step"]
        for number, epoch in enumerate(rig.epochs())
        for line in rig.metrics(number)
        if "loss" in line
    ]
    assert sorted(set(steps)) == [*range(1, 201)]
