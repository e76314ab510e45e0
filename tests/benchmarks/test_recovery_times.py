"""Phases and losses are read rightly from what a pool leaves behind."""

from datetime import UTC, datetime

import pytest

from runtime.coordination.log import EpochRecord
from tests.benchmarks.recovery_times import joins, loss, losses, shares
from tests.benchmarks.training_pool import Harm, Line

ALL, TWO = ("n-0", "n-1", "n-2"), ("n-1", "n-2")


def record(members: tuple[str, ...], holders: tuple[str, ...] = ()) -> EpochRecord:
    return EpochRecord(
        kind="epoch", members=members, holders=holders, writer="n-1", at=datetime.now(UTC)
    )


def steps(first: int, *at_s: float) -> list[dict[str, float]]:
    return [{"step": float(first + n), "at": one} for n, one in enumerate(at_s)]


RECORDS = [record(ALL), record(TWO, TWO), record(ALL, TWO)]
# Killed at 3.5 s; step 3 was applied, and again afterwards. The newcomer is in at 6.3 s.
STEPS = [steps(1, 1.0, 2.0, 3.0), steps(3, 4.8, 5.8), steps(5, 7.2)]
LINES = [
    Line(3.6, "n-1", "worker: epoch 0 broken at step 2: gone"),
    Line(3.7, "n-2", "worker: epoch 0 broken at step 2: gone"),
    Line(3.75, "n-1", "agent: epoch 1: rank 0 of 2, from step 2"),
    Line(3.8, "n-2", "agent: epoch 1: rank 1 of 2, from step 2"),
    Line(3.85, "n-1", "agent: epoch 1: the group stands"),
    Line(3.9, "n-2", "agent: epoch 1: the group stands"),
    Line(3.9, "n-1", "agent: epoch 1: the state is there"),
    Line(3.9, "n-2", "agent: epoch 1: the state is there"),
    *(Line(5.9, node, "agent: epoch 2: rank 0 of 3, from step 4") for node in ALL),
    *(Line(6.0, node, "agent: epoch 2: the group stands") for node in ALL),
    *(Line(6.3, node, "agent: epoch 2: the state is there") for node in ALL),
]
KILL = Harm(at_s=3.5, epoch=0, node="n-0", pids={})


def test_a_kill_costs_what_lies_between_it_and_the_next_epochs_first_step() -> None:
    change = loss(KILL, RECORDS, STEPS, LINES)

    assert (change.before, change.after, change.steps_lost) == (0, 1, 1)
    assert change.overhead_s == pytest.approx(4.8 - 3.5 - 1.0)
    # Each phase ends with the last member, not with the first.
    expected = {"detect": 0.2, "agree": 0.1, "form": 0.1, "fetch": 0.0}
    assert change.phases == pytest.approx(expected)
    assert sum(change.phases.values()) + change.first_step_s == pytest.approx(change.gap_s)


def test_a_newcomer_costs_from_the_last_step_before_it() -> None:
    (change,) = joins(RECORDS, STEPS, LINES)

    assert (change.before, change.after, change.steps_lost) == (1, 2, 0)
    assert change.overhead_s == pytest.approx(7.2 - 5.8 - 1.0)
    assert change.phases == pytest.approx({"agree": 0.1, "form": 0.1, "fetch": 0.3})


def test_two_kills_that_one_epoch_mends_count_once_and_one_of_a_node_that_is_out_not_at_all() -> (
    None
):
    again = Harm(at_s=3.55, epoch=0, node="n-0", pids={})
    outside = Harm(at_s=5.0, epoch=1, node="n-0", pids={})

    found = list(losses([KILL, again, outside], RECORDS, STEPS, LINES))

    assert [change.began_s for change in found] == [KILL.at_s]
    assert shares(found, 10.0)["detect"] == pytest.approx(0.02)
