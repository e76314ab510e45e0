"""Timers of clouds keep times of a week; the end of a run's time must not meet the next run."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.plan.schedule import Wall, gap_hours, later, schedule_faults, wall
from runtime.node_spec import WEEKDAYS, Schedule

schedules = st.builds(
    Schedule,
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    weekdays=st.lists(st.sampled_from(WEEKDAYS), min_size=1, max_size=7).map(tuple),
)
START = datetime(2026, 11, 23, tzinfo=UTC)  # a Monday
FAR = timedelta(days=60)


def moments(at: Wall) -> list[datetime]:
    """Each time that a clock without changes shows this within some weeks."""
    days = (START + timedelta(days=day) for day in range(FAR.days))
    return [
        day.replace(hour=at.hour, minute=at.minute)
        for day in days
        if WEEKDAYS[day.weekday()] in at.weekdays
    ]


@given(schedules, st.integers(1, 24 * 31 * 60))
def test_later_is_each_moment_moved_by_as_much(schedule: Schedule, minutes: int) -> None:
    began, ends = moments(wall(schedule)), set(moments(later(wall(schedule), minutes / 60)))

    moved = [moment + timedelta(minutes=minutes) for moment in began]

    assert {moment for moment in moved if moment < START + FAR} <= ends
    assert len(later(wall(schedule), minutes / 60).weekdays) == len(set(schedule.weekdays))


def test_half_a_minute_more_is_the_next_minute() -> None:
    at = Wall(minute=59, hour=23, weekdays=("sun",))

    assert later(at, 1 / 120) == Wall(minute=0, hour=0, weekdays=("mon",))


@given(schedules)
def test_the_gap_is_the_shortest_time_between_two_ticks(schedule: Schedule) -> None:
    ticks = moments(wall(schedule))

    shortest = min(after - before for before, after in pairwise(ticks))

    assert timedelta(hours=gap_hours(schedule)) == shortest


@given(schedules)
def test_a_run_that_ends_before_the_next_tick_is_planned(schedule: Schedule) -> None:
    gap = gap_hours(schedule)

    assert not list(schedule_faults(schedule, "aws", gap - 0.5))
    assert [fault.at for fault in schedule_faults(schedule, "aws", gap)] == [
        "atoll:budget.run_hours"
    ]
    assert not list(schedule_faults(schedule, "local", gap)), "which has no such timer"


@pytest.mark.parametrize("cloud", ["gcp", "azure"])
def test_a_cloud_without_a_timer_yet_is_refused(cloud: str) -> None:
    schedule = Schedule(minute=0, hour=2)
    options: Mapping[str, object] = {"schedule": schedule, "run_hours": 1.0}

    [fault] = schedule_faults(cloud=cloud, **options)  # type: ignore[arg-type]

    assert fault.at == "atoll:training.schedule"
