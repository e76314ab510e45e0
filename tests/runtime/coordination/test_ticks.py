"""Due times and who gets the run of one."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.coordination.log import PoolLog
from runtime.coordination.ticks import claim_due, due_tick, new_run, tick_run, ticks_between
from runtime.node_spec import Schedule
from runtime.objects import Store, file_url, open_store

DAILY = Schedule(minute=30, hour=6, zone="Europe/Zurich")
TICK = datetime(2026, 7, 1, 4, 30, tzinfo=UTC)  # 06:30 in summer
WINDOW_S = 900.0
STARTS = 50


@pytest.fixture
def control(tmp_path: Path) -> Store:
    return open_store(file_url(tmp_path / "control"))


def test_of_fifty_starts_of_one_tick_one_gets_the_run(control: Store) -> None:
    def claim(writer: str) -> str | None:
        return claim_due(PoolLog(control, "training", writer), DAILY, TICK, WINDOW_S)

    with ThreadPoolExecutor(STARTS) as threads:
        runs = list(threads.map(claim, [f"keeper-{number}" for number in range(STARTS)]))

    assert [run for run in runs if run is not None] == ["run-20260701T0430Z"]
    state = PoolLog(control, "training", "reader").state()
    assert [entry.tick for entry in state.runs] == [TICK]


def test_a_tick_is_claimed_late_but_not_too_late() -> None:
    assert due_tick(DAILY, TICK + timedelta(seconds=WINDOW_S), WINDOW_S) == TICK
    assert due_tick(DAILY, TICK + timedelta(seconds=WINDOW_S + 1), WINDOW_S) is None
    assert due_tick(DAILY, TICK - timedelta(seconds=1), WINDOW_S) is None


def test_a_tick_is_not_claimed_twice_nor_while_a_run_is_open_or_a_hold_is_there(
    control: Store,
) -> None:
    log = PoolLog(control, "training", "keeper")
    later = TICK + timedelta(minutes=1)
    assert log.hold("an update", TICK)
    assert claim_due(log, DAILY, later, WINDOW_S) is None
    log.release(TICK)
    assert log.claim("run-by-hand", TICK)
    assert claim_due(log, DAILY, later, WINDOW_S) is None
    assert log.end("run-by-hand", "published", "", later)

    assert claim_due(log, DAILY, later, WINDOW_S) == tick_run(TICK)
    assert log.end(tick_run(TICK), "published", "", later)
    assert claim_due(log, DAILY, later, WINDOW_S) is None


def test_a_tick_that_was_skipped_is_not_claimed(control: Store) -> None:
    log = PoolLog(control, "training", "node")
    assert log.skip(tick_run(TICK), TICK, "fell into another", TICK)

    assert claim_due(log, DAILY, TICK + timedelta(minutes=1), WINDOW_S) is None


def test_ticks_within_a_run_are_those_after_its_claim() -> None:
    day = timedelta(days=1)

    found = ticks_between(DAILY, TICK, TICK + 2 * day)

    assert found == [TICK + day, TICK + 2 * day]
    assert ticks_between(DAILY, TICK, TICK + day - timedelta(seconds=1)) == []


def test_names_of_runs_are_keys_and_do_not_collide() -> None:
    assert tick_run(TICK.astimezone(UTC)) == "run-20260701T0430Z"
    assert new_run(TICK, "ab12") != new_run(TICK, "ab13")
    assert new_run(TICK, "ab12") != tick_run(TICK)
