"""Schedules as the timers of clouds keep them: wall clock times of a week in one zone.

One machine keeps its timer itself (`runtime.coordination.ticks`). A rented pool is made to grow at
each tick, and to shrink when the longest run that may have begun then must be over.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from infra.plan.fault import Fault
from infra.plan.settings import at
from infra.plan.spec import CloudName
from runtime.node_spec import WEEKDAYS, Schedule, Weekday

TIMERS: frozenset[CloudName] = frozenset({"local", "aws"})
MINUTES_A_DAY = 24 * 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Wall:
    """A time of day on some days of the week."""

    minute: int
    hour: int
    weekdays: tuple[Weekday, ...]


def wall(schedule: Schedule) -> Wall:
    """When a schedule is due."""
    days = tuple(day for day in WEEKDAYS if day in schedule.weekdays)
    return Wall(minute=schedule.minute, hour=schedule.hour, weekdays=days)


def later(moment: Wall, hours: float) -> Wall:
    """So much later on the clock on the wall, to the next whole minute.

    When clocks are changed in between, an hour more or less has gone by.
    """
    total = moment.hour * 60 + moment.minute + math.ceil(round(hours * 60, 6))
    days, minutes = divmod(total, MINUTES_A_DAY)
    shifted = {WEEKDAYS[(WEEKDAYS.index(day) + days) % 7] for day in moment.weekdays}
    return Wall(
        minute=minutes % 60,
        hour=minutes // 60,
        weekdays=tuple(day for day in WEEKDAYS if day in shifted),
    )


def gap_hours(schedule: Schedule) -> int:
    """Shortest time between two ticks, as clocks on the wall count."""
    days = sorted(WEEKDAYS.index(day) for day in set(schedule.weekdays))
    gaps = [(after - day) % 7 or 7 for day, after in zip(days, days[1:] + days[:1], strict=True)]
    return 24 * min(gaps)


def schedule_faults(
    schedule: Schedule | None, cloud: CloudName, run_hours: float
) -> Iterator[Fault]:
    """A schedule that no timer of this cloud can keep."""
    if schedule is None or cloud == "local":
        return
    if cloud not in TIMERS:
        yield Fault(
            at=at("training.schedule"),
            beside=(at("cluster.cloud"),),
            found=f"a schedule on {cloud}",
            allowed=f"a schedule on {', '.join(sorted(TIMERS))}",
            do="remove it and use atoll runs start",
        )
    elif run_hours >= gap_hours(schedule):
        yield Fault(
            at=at("budget.run_hours"),
            beside=(at("training.schedule"),),
            found=f"{run_hours:g} with ticks {gap_hours(schedule)} hours apart, so that the end "
            "of one run's time would stop the next run",
            allowed=f"less than {gap_hours(schedule)}",
            do="lower it, or leave days out",
        )
