"""Logs on a real folder: who wins a record, what a lost answer means, what is alive."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.coordination.log import (
    EpochRecord,
    LiveRecord,
    Log,
    Presence,
    RunEntry,
    epoch_log,
    is_live,
    next_live,
    read_presence,
    store_now,
)
from runtime.errors import Corrupt, Unavailable
from runtime.limits import ALIVE_S, JOIN_GRACE_S
from runtime.objects import Store
from tests.doubles.store import HookedStore, Operation, pass_on, refuse

AT = datetime(2026, 1, 2, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[3]
WRITERS = 8
RECORDS = 12  # of each writer
APPEND = """
import sys
from datetime import UTC, datetime
from runtime.coordination.log import EpochRecord, epoch_log
from runtime.objects import open_store

url, writer, records = sys.argv[1], sys.argv[2], int(sys.argv[3])
log = epoch_log(open_store(url), "run-1")
print("up", flush=True)
sys.stdin.readline()
for number in range(records):
    record = EpochRecord(kind="epoch", why=str(number), writer=writer, at=datetime.now(UTC))
    while not log.append_at(len(log.read()), record):
        pass
"""


@pytest.fixture
def control(tmp_path: Path) -> HookedStore:
    return HookedStore(tmp_path / "control")


def epoch(writer: str = "training-0", why: str = "") -> EpochRecord:
    return EpochRecord(kind="epoch", writer=writer, why=why, at=AT)


def presence(node: str = "training-0", run: str | None = "run-1") -> Presence:
    return Presence(
        node=node,
        pool="training",
        role="training",
        address="127.0.0.1",
        boot_id="b",
        pid=1,
        state="training",
        run=run,
    )


def test_what_is_appended_is_read_by_others_in_order(control: Store) -> None:
    written = [epoch(why=str(number)) for number in range(12)]
    log = epoch_log(control, "run-1")

    won = [log.append_at(number, record) for number, record in enumerate(written)]

    assert all(won)
    assert epoch_log(control, "run-1").read() == written
    assert epoch_log(control, "run-10").read() == []


def test_a_record_that_stands_is_never_replaced(control: Store) -> None:
    log = epoch_log(control, "run-1")
    first = epoch("training-0")
    assert log.append_at(0, first)

    assert not log.append_at(0, epoch("training-1"))

    assert log.read() == [first]


def test_a_write_whose_answer_was_lost_is_known_as_ones_own(control: HookedStore) -> None:
    control.after = refuse("put_if_absent")

    assert epoch_log(control, "run-1").append_at(0, epoch())


def test_a_write_that_the_store_repeated_by_itself_is_known_as_ones_own(control: Store) -> None:
    record = epoch()
    assert epoch_log(control, "run-1").append_at(0, record)

    assert epoch_log(control, "run-1").append_at(0, record)


def test_a_lost_answer_is_no_win_when_somebody_else_was_faster(control: HookedStore) -> None:
    other = epoch("training-1")
    assert epoch_log(control, "run-1").append_at(0, other)
    control.before = refuse("put_if_absent")

    assert not epoch_log(control, "run-1").append_at(0, epoch("training-0"))

    assert epoch_log(control, "run-1").read() == [other]


def test_a_write_that_did_not_arrive_is_neither_won_nor_lost(control: HookedStore) -> None:
    log = epoch_log(control, "run-1")
    record = epoch()
    control.before = refuse("put_if_absent")

    with pytest.raises(Unavailable, match="neither written nor refused"):
        log.append_at(0, record)

    control.before = pass_on
    assert log.read() == []
    assert log.append_at(0, record)


def test_a_doubtful_write_that_can_not_be_read_back_stays_doubtful(control: HookedStore) -> None:
    control.after = refuse("put_if_absent")
    control.before = refuse("get")

    with pytest.raises(Unavailable):
        epoch_log(control, "run-1").append_at(0, epoch())


def test_records_behind_a_gap_are_not_there(control: Store) -> None:
    log = epoch_log(control, "run-1")
    assert log.append_at(0, epoch())
    assert log.append_at(2, epoch())

    assert len(epoch_log(control, "run-1").read()) == 1


def test_a_reader_asks_only_for_what_it_has_not_seen(control: HookedStore) -> None:
    asked: list[str] = []

    def note(operation: Operation, key: str) -> None:
        asked.append(f"{operation} {key}")

    log = epoch_log(control, "run-1")
    for number in range(3):
        assert epoch_log(control, "run-1").append_at(number, epoch())
    log.read()
    control.before = note

    log.read()

    assert asked == ["get runs/run-1/epochs/00000003"]


@pytest.mark.parametrize("content", [b"", b'{"kind": "epo', b'{"kind": "epoch", "writer": "n"}'])
def test_a_record_that_is_none_stops_the_reader(control: Store, content: bytes) -> None:
    control.put("runs/run-1/epochs/00000000", content)

    with pytest.raises(Corrupt, match="runs/run-1/epochs/00000000"):
        epoch_log(control, "run-1").read()


def append_all(log: Log[EpochRecord], writer: str) -> list[tuple[int, str]]:
    """Append RECORDS records, each until it has won; their numbers and nonces."""
    won = []
    for number in range(RECORDS):
        record = epoch(writer, why=str(number))
        while not log.append_at(at := len(log.read()), record):
            pass
        won.append((at, record.nonce))
    return won


def test_of_many_threads_each_record_has_one_winner_and_none_is_lost(control: Store) -> None:
    def append(writer: int) -> list[tuple[int, str]]:
        return append_all(epoch_log(control, "run-1"), f"training-{writer}")

    with ThreadPoolExecutor(WRITERS) as threads:
        won = [pair for pairs in threads.map(append, range(WRITERS)) for pair in pairs]

    records = epoch_log(control, "run-1").read()
    assert sorted(won) == [(number, record.nonce) for number, record in enumerate(records)]
    assert len(records) == WRITERS * RECORDS


def test_of_several_processes_none_overwrites_another(control: Store) -> None:
    command = [sys.executable, "-P", "-c", APPEND, control.url]
    writers = [
        subprocess.Popen(
            [*command, f"training-{writer}", str(RECORDS)],
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for writer in range(3)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"up\n"

    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()

    records = epoch_log(control, "run-1").read()
    told = sorted((record.writer, int(record.why)) for record in records)
    assert told == [(f"training-{w}", n) for w in range(3) for n in range(RECORDS)]


LONG_AGO = AT - timedelta(seconds=JOIN_GRACE_S)
ENTRY = RunEntry(run="run-1", number=0, tick=None, claimed_at=LONG_AGO)
FRESH = AT - timedelta(seconds=ALIVE_S - 0.1)
STALE = AT - timedelta(seconds=ALIVE_S)


def test_a_run_lives_while_one_member_beats() -> None:
    told = [(presence("training-0"), STALE), (presence("training-1"), FRESH)]

    assert is_live(ENTRY, told, AT)


@pytest.mark.parametrize(
    "told",
    [
        [],
        [(presence(), STALE)],
        [(presence(run="run-2"), AT)],
        [(presence(run=None), AT), (presence(), STALE)],
    ],
    ids=["nobody", "stale", "another run", "idle"],
)
def test_a_run_without_a_fresh_member_of_its_own_is_dead(
    told: list[tuple[Presence, datetime]],
) -> None:
    assert not is_live(ENTRY, told, AT)


def test_a_run_too_young_to_have_members_lives() -> None:
    assert is_live(ENTRY, [], AT - timedelta(seconds=0.1))
    assert not is_live(ENTRY, [], AT)


def live(kind: str, run_number: int) -> LiveRecord:
    return LiveRecord.model_validate(
        {
            "kind": kind,
            "digest": f"d{run_number}",
            "run": f"run-{run_number}",
            "run_number": run_number,
            "writer": "n",
            "at": AT,
        }
    )


def take_over(log: list[LiveRecord], run_number: int) -> LiveRecord | None:
    return next_live(log, f"d{run_number}", f"run-{run_number}", run_number, "n", AT)


def test_the_first_run_takes_over_from_nothing() -> None:
    record = take_over([], 4)

    assert record is not None
    assert (record.kind, record.digest, record.run, record.run_number) == ("auto", "d4", "run-4", 4)


@pytest.mark.parametrize("kind", ["auto", "promote", "rollback"])
def test_a_newer_run_takes_over_and_an_older_or_the_same_one_does_not(kind: str) -> None:
    log = [live("auto", 1), live(kind, 5)]

    assert take_over(log, 6) is not None
    assert take_over(log, 5) is None
    assert take_over(log, 4) is None


def test_a_pin_keeps_every_run_out_until_something_else_is_decided() -> None:
    pinned = [live("auto", 2), live("pin", 1)]

    assert take_over(pinned, 9) is None
    assert take_over([*pinned, live("promote", 2)], 9) is not None


@given(order=st.permutations(range(6)))
def test_in_whatever_order_runs_publish_the_newest_is_live_at_the_end(order: list[int]) -> None:
    log: list[LiveRecord] = []

    for run_number in order:
        record = take_over(log, run_number)
        log += [record] if record else []

    assert log[-1].run_number == 5
    assert all(before.run_number < after.run_number for before, after in pairwise(log))


def test_presence_comes_with_the_stores_time_of_its_last_write(
    control: HookedStore, tmp_path: Path
) -> None:
    written = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    for node in ("training-0", "training-1"):
        control.put(f"nodes/{node}", presence(node).model_dump_json().encode())
    os.utime(tmp_path / "control" / "nodes" / "training-0", (0, written.timestamp()))

    told = {p.node: (p, at) for p, at in read_presence(control)}

    assert told["training-0"] == (presence("training-0"), written)
    assert told["training-1"][1] > written


def test_a_node_that_is_removed_while_it_is_looked_at_is_left_out(control: HookedStore) -> None:
    for node in ("training-0", "training-1"):
        control.put(f"nodes/{node}", presence(node).model_dump_json().encode())

    def remove(operation: Operation, key: str) -> None:
        if operation == "get" and key == "nodes/training-0":
            control.delete(key)

    control.before = remove

    assert [p.node for p, _ in read_presence(control)] == ["training-1"]


def test_the_stores_time_is_that_of_an_object_of_the_askers_own(
    control: Store, tmp_path: Path
) -> None:
    mine = tmp_path / "control" / "clock" / "training-0"

    first = store_now(control, "training-0")
    other = store_now(control, "training-1")
    os.utime(mine, (0, AT.timestamp()))
    again = store_now(control, "training-0")

    assert first <= other <= again
    assert again.timestamp() == pytest.approx(mine.stat().st_mtime, abs=1e-3)
