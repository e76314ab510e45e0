"""The timer's looks, against real logs in a folder store; only the passing of time is played."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.provider.keeping.timer import BUSY_LOOK_S, DEAD_RUN_S, IDLE_LOOK_S, Timer
from runtime.coordination.log import PoolLog, Presence
from runtime.limits import JOIN_GRACE_S
from runtime.node_spec import Schedule
from tests.infra.provider.pool_under_test import PoolUnderTest

LONG_AGO = timedelta(seconds=JOIN_GRACE_S + 60)


@dataclass
class Time:
    """Monotonic time that moves when told."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Kept:
    """A training pool that is looked at."""

    pool: PoolUnderTest
    time: Time

    def timer(self, writer: str = "keeper-1") -> Timer:
        """One that keeps its time."""
        return Timer(self.pool.file(), self.pool.control, writer, self.time)

    def log(self) -> PoolLog:
        """Its log, read anew."""
        return PoolLog(self.pool.control, "training", "test")

    def say(self, run: str | None) -> None:
        """A member's presence, just written."""
        presence = Presence(
            node="training-0",
            pool="training",
            role="training",
            address="127.9.9.10",
            boot_id="b",
            pid=1,
            state="training",
            run=run,
        )
        self.pool.control.put("nodes/training-0", presence.model_dump_json().encode())


def due(in_hours: int = 0) -> Schedule:
    """A schedule of this minute: made when a test needs it, since a tick soon is too old."""
    now = datetime.now(UTC)
    return Schedule(minute=now.minute, hour=(now.hour + in_hours) % 24)


@pytest.fixture
def kept(tmp_path: Path) -> Callable[[Schedule | None], Kept]:
    """Makes a training pool of at most three nodes."""

    def make(schedule: Schedule | None) -> Kept:
        pool = PoolUnderTest(tmp_path, "00000000", role="training", size=0, schedule=schedule)
        return Kept(pool, Time())

    return make


MakeKept = Callable[[Schedule | None], Kept]


def test_a_due_run_is_claimed_once_by_however_many_look(kept: MakeKept) -> None:
    schedule = due()
    pool = kept(schedule)
    timers = [pool.timer(f"keeper-{n}") for n in range(8)]

    with ThreadPoolExecutor(8) as threads:
        sizes = list(threads.map(lambda timer: timer.look(0), timers))

    [run] = pool.log().state().runs
    assert run.tick == schedule.last_tick(datetime.now(UTC))
    assert 3 in sizes
    assert set(sizes) <= {3, None}


def test_what_is_not_due_or_not_scheduled_starts_nothing(kept: MakeKept) -> None:
    for schedule in (due(in_hours=12), None):
        pool = kept(schedule)

        assert pool.timer().look(0) is None
        assert pool.log().state().runs == ()


def test_a_tick_during_a_run_is_skipped_and_not_made_up_for(kept: MakeKept) -> None:
    pool = kept(due())
    pool.log().claim("asked-for", datetime.now(UTC))
    pool.say("asked-for")

    assert pool.timer().look(3) is None
    pool.log().end("asked-for", "published", "", datetime.now(UTC))
    assert pool.timer().look(0) is None

    assert [run.outcome for run in pool.log().state().runs] == ["published", "skipped"]


def test_a_tick_of_a_held_pool_waits_for_the_release(kept: MakeKept) -> None:
    pool = kept(due())
    pool.log().hold("up of test", datetime.now(UTC))
    timer = pool.timer()

    assert timer.look(0) is None
    pool.log().release(datetime.now(UTC))

    assert timer.look(0) == 3


def test_a_claim_whose_owner_died_before_the_pool_grew_gets_its_nodes(kept: MakeKept) -> None:
    pool = kept(None)
    pool.log().claim("asked-for", datetime.now(UTC))

    assert pool.timer().look(0) == 3
    assert pool.timer().look(3) is None


def test_a_run_that_nobody_lives_in_is_ended_after_a_while(kept: MakeKept) -> None:
    pool = kept(None)
    pool.log().claim("dead", datetime.now(UTC) - LONG_AGO)
    pool.say("another")
    timer = pool.timer()

    assert timer.look(3) is None
    pool.time.seconds += DEAD_RUN_S - 1
    assert timer.look(3) is None
    pool.time.seconds += 1
    assert timer.look(3) == 0

    [run] = pool.log().state().runs
    assert run.outcome == "failed"
    assert "alive" in run.why


def test_a_member_that_comes_back_in_time_saves_its_run(kept: MakeKept) -> None:
    pool = kept(None)
    pool.log().claim("lost", datetime.now(UTC) - LONG_AGO)
    timer = pool.timer()

    assert timer.look(3) is None
    pool.time.seconds += DEAD_RUN_S - 1
    pool.say("lost")
    assert timer.look(3) is None
    pool.time.seconds += DEAD_RUN_S - 1
    assert timer.look(3) is None

    assert pool.log().state().open_run is not None


def test_nodes_without_a_run_are_let_go_after_a_while(kept: MakeKept) -> None:
    pool = kept(None)
    timer = pool.timer()

    assert timer.look(2) is None
    pool.time.seconds += DEAD_RUN_S
    assert timer.look(2) == 0


def test_it_wakes_for_a_tick_and_looks_more_often_while_something_runs(kept: MakeKept) -> None:
    timer = kept(Schedule(minute=0, hour=12)).timer()
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)

    assert timer.pause_s(0, noon) == IDLE_LOOK_S
    assert timer.pause_s(1, noon) == BUSY_LOOK_S
    assert 2.0 < timer.pause_s(0, noon - timedelta(seconds=2)) < 2.1
