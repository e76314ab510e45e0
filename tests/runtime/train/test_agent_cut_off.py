"""A node that the others can't reach, while the store can: nobody is told, nothing ends."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.doubles.wires import Wires, wired

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runtime.train.conftest import Rig

pytestmark = pytest.mark.slow

NODES = 3


@pytest.fixture
def wires(rig: Rig) -> Iterator[Wires]:
    """The rig's nodes on wires."""
    with ExitStack() as stack:
        try:
            wires = stack.enter_context(wired(NODES))
        except OSError as fault:
            pytest.skip(f"this machine allows no network namespaces: {fault}")
        rig.subnet = wires
        yield wires
        rig.stop()


@pytest.mark.parametrize("victim", [0, 2])
def test_a_node_that_is_cut_off_is_put_out_leaves_the_others_alone_and_comes_back(
    rig: Rig, wires: Wires, victim: int
) -> None:
    rig.spec = rig.spec.model_copy(update={"steps": 1_000_000, "nodes": NODES, "watchdog_s": 2.0})
    rig.claim()
    for index in range(NODES):
        rig.start(index, within=wires.within(index))
    rig.wait(lambda: rig.step() >= 30, "30 steps")
    workers = [rig.nodes[index].worker_pid() for index in range(NODES)]

    wires.cut(victim)
    rig.wait(lambda: len(rig.epochs()) >= 2, "the others go on")
    told = rig.step()
    # Longer than a node with nothing in memory waits before it decides by itself.
    rig.wait(lambda: rig.step() > told + 3000, "many steps without it")
    apart = rig.epochs()
    wires.mend(victim)
    rig.wait(lambda: len(rig.epochs()) > len(apart), "it is back")

    others = tuple(f"training-{index}" for index in range(NODES) if index != victim)
    assert [epoch.members for epoch in apart[1:]] == [others], rig.logs()
    assert apart[1].holders == others
    together = rig.epochs()[len(apart)]
    assert len(together.members) == NODES
    assert together.holders == others
    assert [rig.nodes[index].worker_pid() for index in range(NODES)] == workers
