"""How often to save."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.checkpoint.interval import (
    DAY_S,
    Cadence,
    best_interval_s,
    between_failures_s,
)
from runtime.limits import INTERVAL_S_MAX, INTERVAL_S_MIN


@given(cost_s=st.floats(0.05, 20), between_s=st.floats(3600, 1e5))
def test_no_other_interval_within_the_bounds_loses_less(cost_s: float, between_s: float) -> None:
    def lost(interval_s: float) -> float:
        return cost_s / interval_s + interval_s / (2 * between_s)

    best_s = best_interval_s(cost_s, between_s)

    assert INTERVAL_S_MIN <= best_s <= INTERVAL_S_MAX
    for share in (0.5, 0.9, 1.1, 2.0):
        other_s = min(max(best_s * share, INTERVAL_S_MIN), INTERVAL_S_MAX)
        assert lost(best_s) <= lost(other_s) * (1 + 1e-9)


def test_youngs_formula_to_the_letter() -> None:
    assert best_interval_s(2.0, 10_000.0) == math.sqrt(2 * 2.0 * 10_000.0) == 200.0


def test_without_a_failure_the_prior_speaks_and_each_failure_after_it_counts() -> None:
    assert between_failures_s(1, 0, 0.0, "spot") == DAY_S
    assert between_failures_s(4, 0, 0.0, "spot") == DAY_S / 4
    # Three failures in half a day of four nodes.
    assert between_failures_s(4, 3, DAY_S / 2, "spot") == pytest.approx(3 * DAY_S / 16)
    assert between_failures_s(4, 0, 0.0, "on_demand") > between_failures_s(4, 0, 0.0, "spot")


def test_a_setting_is_obeyed() -> None:
    cadence = Cadence(every_steps=10, nodes=2)

    assert [step for step in range(1, 31) if cadence.is_due(step)] == [10, 20, 30]


def drive(cadence: Cadence, seconds: float, stall_s: float, slow_s: float) -> list[float]:
    """Steps of one second; a save stalls, then slows the next three. When it saved."""
    saved: list[float] = []
    slow = 0
    now_s = 0.0
    step = 0
    while now_s < seconds:
        step_s = 1.0 + (slow_s if slow else 0.0)
        cadence.stepped(step_s, is_writing=slow > 0)
        slow = max(0, slow - 1)
        now_s += step_s
        step += 1
        if cadence.is_due(step):
            saved.append(now_s)
            cadence.staged(stall_s)
            slow = 3
    return saved


def test_the_first_save_comes_soon_and_the_others_as_their_cost_says() -> None:
    cadence = Cadence(every_steps=None, nodes=2, capacity="spot")

    saved = drive(cadence, 7200.0, stall_s=0.5, slow_s=0.5)

    assert saved[0] == INTERVAL_S_MIN
    cost_s = 0.5 + 3 * 0.5
    wanted_s = math.sqrt(2 * cost_s * between_failures_s(2, 0, 3600.0, "spot"))
    gaps = [b - a for a, b in pairwise(saved[1:])]
    assert gaps
    assert all(gap == pytest.approx(wanted_s, rel=0.1) for gap in gaps)


def test_dearer_saves_come_less_often_and_failures_make_them_come_more_often() -> None:
    def saves(stall_s: float, failures: int) -> int:
        cadence = Cadence(every_steps=None, nodes=4, failures=failures, capacity="spot")
        return len(drive(cadence, 20_000.0, stall_s, 0.0))

    assert saves(0.1, 0) > saves(1.0, 0) > saves(10.0, 0)
    assert saves(1.0, 5) > saves(1.0, 0)
