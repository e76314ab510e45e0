"""Due times of a schedule, and the runs that stand for them. The clock is passed in."""

from datetime import UTC, datetime, timedelta

from runtime.coordination.log import PoolLog
from runtime.node_spec import Schedule


def tick_run(tick: datetime) -> str:
    """The run of a due time: whoever claims it gives it the same name."""
    return f"run-{tick.astimezone(UTC):%Y%m%dT%H%MZ}"


def new_run(now: datetime, token: str) -> str:
    """The name of a run that somebody asked for; the token keeps two of one second apart."""
    return f"run-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{token}"


def due_tick(schedule: Schedule, now: datetime, window_s: float) -> datetime | None:
    """The newest due time, unless it is older than the window: late is better never."""
    tick = schedule.last_tick(now)
    if tick is None or now - tick > timedelta(seconds=window_s):
        return None
    return tick


def claim_due(pool_log: PoolLog, schedule: Schedule, now: datetime, window_s: float) -> str | None:
    """Claim the newest due time; the run's name, or None: not due, spoken for, or pool not free.

    Of any number that try, one gets the run.
    """
    tick = due_tick(schedule, now, window_s)
    if tick is None:
        return None
    run = tick_run(tick)
    return run if pool_log.claim(run, now, tick) else None


def ticks_between(schedule: Schedule, after: datetime, until: datetime) -> list[datetime]:
    """Due times after the one moment, up to the other: those that fell into a run."""
    ticks = []
    tick = schedule.next_tick(after)
    while tick <= until:
        ticks.append(tick)
        tick = schedule.next_tick(tick)
    return ticks
