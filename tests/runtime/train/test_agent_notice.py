"""A node whose cloud will take it leaves in time, and costs the others nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from runtime import checkpoint
from runtime.limits import LEAVE_S
from tests.doubles.local_cloud import FakeKeeper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runtime.train.conftest import Rig

pytestmark = pytest.mark.slow

NOTICE_S = 30.0  # as GCP and Azure give


@pytest.fixture
def keeper(rig: Rig) -> Iterator[FakeKeeper]:
    """Gives notice to training-1."""
    keeper = FakeKeeper(rig.stack_id)
    yield keeper
    keeper.close()


def reclaim(keeper: FakeKeeper) -> None:
    keeper.leave_by = datetime.now(UTC) + timedelta(seconds=NOTICE_S)


def test_a_node_with_a_notice_leaves_at_a_step_and_the_others_go_on(
    rig: Rig, keeper: FakeKeeper
) -> None:
    rig.spec = rig.spec.model_copy(
        update={"steps": 100_000, "nodes": 3, "checkpoint_every_steps": 50_000}
    )
    rig.train(0, 1, 2)

    reclaim(keeper)
    status = rig.nodes[1].process.wait(LEAVE_S)
    rig.wait(lambda: len(rig.epochs()) == 2, "the others go on")
    rig.wait(lambda: rig.has_metrics(1), "figures of their epoch")

    assert status == 0
    _, second = rig.epochs()
    assert second.members == second.holders == ("training-0", "training-2")
    steps = [line["step"] for line in rig.metrics(0) if "loss" in line]
    assert steps[-1] == second.resume_step  # it left between two steps: none was lost
    told = rig.presence(1)
    assert told is not None
    assert told.state == "stopped"
    assert checkpoint.commits(rig.store("checkpoints"), rig.entry().run) == []


def test_the_last_node_with_a_notice_saves_what_it_holds(rig: Rig, keeper: FakeKeeper) -> None:
    rig.spec = rig.spec.model_copy(
        update={"steps": 100_000, "nodes": 1, "checkpoint_every_steps": 50_000}
    )
    rig.train(1)

    reclaim(keeper)
    status = rig.nodes[1].process.wait(LEAVE_S)

    assert status == 0
    (commit,) = checkpoint.commits(rig.store("checkpoints"), rig.entry().run)
    assert commit.step >= 30
    keeper.leave_by = None
    rig.start(1)
    rig.wait(lambda: len(rig.epochs()) == 2, "its replacement goes on")
    assert rig.epochs()[1].resume_step == commit.step


def test_an_idle_node_with_a_notice_leaves_at_once(rig: Rig, keeper: FakeKeeper) -> None:
    rig.start(1)
    rig.wait(lambda: rig.presence(1) is not None, "presence")

    reclaim(keeper)

    assert rig.nodes[1].process.wait(LEAVE_S) == 0
