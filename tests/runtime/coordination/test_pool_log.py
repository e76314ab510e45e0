"""One pool, one order: what its log adds up to, and who gets it of those that want it at once."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from runtime.coordination.log import Outcome, PoolLog, PoolRecord, PoolState, pool_state
from runtime.errors import Conflict, Unavailable
from runtime.objects import Store, file_url, open_store
from tests.doubles.store import HookedStore, Operation, pass_on, refuse, refuse_call

AT = datetime(2026, 1, 2, tzinfo=UTC)
TICKS = [AT + timedelta(days=day) for day in range(4)]
RUNS = [f"run-{number}" for number in range(4)]
ENDS = [outcome for outcome in get_args(Outcome) if outcome != "skipped"]
RIVALS = 16
EXAMPLES = 40  # each of many files


@pytest.fixture
def control(tmp_path: Path) -> Store:
    return open_store(file_url(tmp_path / "control"))


def pool_log(control: Store, writer: int = 0) -> PoolLog:
    return PoolLog(control, "training", f"writer-{writer}")


def records(control: Store) -> list[PoolRecord]:
    """As they stand in the folder."""
    keys = sorted(info.key for info in control.list("pools/training/log"))
    return [PoolRecord.model_validate_json(control.get(key)) for key in keys]


def at_once(tries: Iterable[Callable[[PoolLog], bool]], control: Store) -> list[bool]:
    """What each of many writers is told that try at the same time."""
    tries = list(tries)

    def call(number: int) -> bool:
        return tries[number](pool_log(control, number))

    with ThreadPoolExecutor(len(tries)) as threads:
        return list(threads.map(call, range(len(tries))))


# What stands in a log may be anybody's: any order of records that single writers could mean.
claims = st.builds(
    PoolRecord,
    kind=st.just("claim"),
    run=st.sampled_from(RUNS),
    tick=st.none() | st.sampled_from(TICKS),
    writer=st.just("w"),
    at=st.just(AT),
)
ends = st.builds(
    PoolRecord,
    kind=st.just("end"),
    run=st.sampled_from(RUNS),
    outcome=st.sampled_from(ENDS),
    writer=st.just("w"),
    at=st.just(AT),
)
skips = st.builds(
    PoolRecord,
    kind=st.just("end"),
    run=st.sampled_from(TICKS).map(lambda tick: f"run-of-{tick:%d}"),
    outcome=st.just("skipped"),
    tick=st.sampled_from(TICKS),
    writer=st.just("w"),
    at=st.just(AT),
)
holds = st.builds(
    PoolRecord, kind=st.sampled_from(["hold", "release"]), writer=st.just("w"), at=st.just(AT)
)
logs = st.lists(st.one_of(claims, ends, skips, holds), max_size=20)


def keeps_order(record: PoolRecord, state: PoolState) -> bool:
    """Whether a record may follow on a state."""
    is_spoken_for = record.tick is not None and record.tick in state.ticks
    match record.kind:
        case "claim":
            return state.is_free and not is_spoken_for
        case "end" if record.outcome == "skipped":
            return not is_spoken_for
        case "end":
            return state.open_run is not None and state.open_run.run == record.run
        case "hold":
            return state.open_run is None
        case "release":
            return True


@given(log=logs)
def test_there_are_never_two_open_runs_and_none_beside_a_hold(log: list[PoolRecord]) -> None:
    for length in range(len(log) + 1):
        state = pool_state(log[:length])

        still_open = [entry for entry in state.runs if entry.outcome is None]
        assert still_open == ([state.open_run] if state.open_run else [])
        assert not (state.open_run and state.hold)


@given(log=logs, last=st.one_of(claims, ends, skips, holds))
def test_a_record_that_breaks_the_order_changes_nothing(
    log: list[PoolRecord], last: PoolRecord
) -> None:
    before = pool_state(log)

    after = pool_state([*log, last])

    if not keeps_order(last, before):
        assert after == before
    elif last.kind != "release":
        assert after != before


@given(log=logs)
def test_a_tick_is_claimed_or_skipped_once(log: list[PoolRecord]) -> None:
    told: list[datetime] = []

    for length, record in enumerate(log):
        if record.tick is not None and pool_state(log[: length + 1]) != pool_state(log[:length]):
            told.append(record.tick)

    assert len(told) == len(set(told))
    assert pool_state(log).ticks == set(told)


class Pool(RuleBasedStateMachine):
    """Two writers that take turns on one pool, beside the three facts that matter."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.control = open_store(file_url(Path(self.folder.name)))
        self.writers = [pool_log(self.control, number) for number in range(2)]
        self.claimed: list[str] = []
        self.open_run: str | None = None
        self.is_held = False
        self.ticks: set[datetime] = set()

    @rule(writer=st.integers(0, 1), tick=st.none() | st.sampled_from(TICKS))
    def claim(self, writer: int, tick: datetime | None) -> None:
        run = f"run-{len(self.claimed)}"
        may = self.open_run is None and not self.is_held and tick not in self.ticks

        assert self.writers[writer].claim(run, AT, tick) == may

        if may:
            self.claimed.append(run)
            self.open_run = run
            self.ticks |= {tick} if tick else set()

    @rule(writer=st.integers(0, 1), is_other=st.booleans(), outcome=st.sampled_from(ENDS))
    def end(self, writer: int, is_other: bool, outcome: Outcome) -> None:
        may = self.open_run is not None and not is_other
        run = self.open_run if self.open_run and may else "run-of-others"

        assert self.writers[writer].end(run, outcome, "why", AT) == may

        if may:
            self.open_run = None

    @rule(writer=st.integers(0, 1), tick=st.sampled_from(TICKS))
    def skip(self, writer: int, tick: datetime) -> None:
        may = tick not in self.ticks

        assert self.writers[writer].skip(f"run-of-{tick:%d}", tick, "why", AT) == may

        self.ticks.add(tick)

    @rule(writer=st.integers(0, 1))
    def hold(self, writer: int) -> None:
        may = self.open_run is None

        assert self.writers[writer].hold("an update", AT) == may

        self.is_held = self.is_held or may

    @rule(writer=st.integers(0, 1))
    def release(self, writer: int) -> None:
        self.writers[writer].release(AT)

        self.is_held = False

    @invariant()
    def every_writer_sees_the_same(self) -> None:
        for writer in self.writers:
            state = writer.state()
            claimed = [entry.run for entry in state.runs if entry.outcome != "skipped"]
            assert claimed == self.claimed
            assert (state.open_run.run if state.open_run else None) == self.open_run
            assert (state.hold is not None) == self.is_held
            assert state.ticks == self.ticks

    def teardown(self) -> None:
        self.folder.cleanup()


def test_writers_that_take_turns_are_told_what_they_may() -> None:
    run_state_machine_as_test(
        Pool, settings=settings(max_examples=EXAMPLES, stateful_step_count=20)
    )


def test_a_runs_entry_tells_its_claim_and_its_end(control: Store) -> None:
    log = pool_log(control)
    log.release(AT)
    assert log.hold("an update", AT)
    log.release(AT)
    assert log.claim("run-1", AT, TICKS[0])

    assert log.end("run-1", "failed", "no reason", AT + timedelta(hours=1))

    entry = pool_log(control).state().runs[0]
    assert (entry.run, entry.number, entry.tick, entry.claimed_at) == ("run-1", 2, TICKS[0], AT)
    assert (entry.outcome, entry.why) == ("failed", "no reason")


def test_of_many_claims_at_once_one_wins(control: Store) -> None:
    def claim(number: int) -> Callable[[PoolLog], bool]:
        return lambda log: log.claim(f"run-{number}", AT)

    won = at_once([claim(number) for number in range(RIVALS)], control)

    state = pool_log(control).state()
    assert won.count(True) == 1
    assert state.open_run is not None
    assert state.open_run.run == f"run-{won.index(True)}"
    assert len(state.runs) == 1


def test_of_a_hold_and_a_claim_at_once_one_wins(control: Store) -> None:
    tries = [lambda log: log.hold("an update", AT), lambda log: log.claim("run-1", AT)]

    won = at_once(tries * (RIVALS // 2), control)

    state = pool_log(control).state()
    holds_won, claims_won = any(won[0::2]), won[1::2].count(True)
    assert (holds_won, claims_won) in {(True, 0), (False, 1)}
    assert (state.hold is not None, state.open_run is not None) == (holds_won, claims_won == 1)


def test_of_many_that_end_a_run_at_once_one_does(control: Store) -> None:
    assert pool_log(control).claim("run-1", AT)

    won = at_once([lambda log: log.end("run-1", "failed", "", AT)] * RIVALS, control)

    assert won.count(True) == 1
    assert [record.kind for record in records(control)] == ["claim", "end"]


def test_of_claims_and_skips_of_one_tick_at_once_one_wins(control: Store) -> None:
    tries = [
        lambda log: log.claim("run-1", AT, TICKS[0]),
        lambda log: log.skip("run-of-1", TICKS[0], "", AT),
    ]

    won = at_once(tries * (RIVALS // 2), control)

    assert won.count(True) == 1
    assert len(records(control)) == 1


def test_many_that_let_go_of_a_hold_write_it_once(control: Store) -> None:
    def release(log: PoolLog) -> bool:
        log.release(AT)
        return True

    assert pool_log(control).hold("an update", AT)

    at_once([release] * RIVALS, control)

    assert [record.kind for record in records(control)] == ["hold", "release"]


@pytest.mark.parametrize("call", range(1, 5))
def test_a_claim_through_a_store_that_fails_once_is_won_or_told_as_unavailable(
    tmp_path: Path, call: int
) -> None:
    store = HookedStore(tmp_path / "control")
    log = pool_log(store)
    store.before = refuse_call(call)
    store.after = pass_on

    try:
        won = log.claim("run-1", AT)
    except Unavailable:
        won = False

    state = pool_log(open_store(store.url)).state()
    assert (state.open_run is not None) == won


def test_a_claim_whose_answer_was_lost_is_won(tmp_path: Path) -> None:
    store = HookedStore(tmp_path / "control", after=refuse("put_if_absent"))

    assert pool_log(store).claim("run-1", AT)

    assert len(records(store)) == 1


@pytest.mark.parametrize(
    "write",
    [
        lambda log: log.claim("run-1", AT),
        lambda log: log.skip("run-1", TICKS[0], "", AT),
        lambda log: log.hold("", AT),
    ],
    ids=["claim", "skip", "hold"],
)
def test_a_writer_that_always_comes_second_gives_up(
    tmp_path: Path, write: Callable[[PoolLog], bool]
) -> None:
    store = HookedStore(tmp_path / "control")
    other = PoolRecord(kind="release", writer="other", at=AT).model_dump_json().encode()

    def be_first(operation: Operation, key: str) -> None:
        if operation == "put_if_absent":
            store.put(key, other)

    store.before = be_first

    with pytest.raises(Conflict, match="50 appends"):
        write(pool_log(store))
