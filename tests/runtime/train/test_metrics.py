"""Figures on their way to the store: all of them, readable, and never in the way of a step."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from runtime.errors import Missing
from runtime.objects import Store
from runtime.train import metrics as module
from runtime.train.metrics import Metrics
from tests.doubles.store import HookedStore, Operation, pass_on, refuse

RUN = "run-1"
EPOCH = 2
JSONL = f"{RUN}/metrics/{EPOCH}.jsonl"
BOARD = f"{RUN}/tensorboard/{EPOCH}"
AT_S = 1_770_000_000.0
WAIT_S = 20.0
NEVER_S = 1000.0

LINES = [
    {"step": 1, "loss": 4.5, "tokens_per_s": 1000.25},
    {"step": 2, "loss": 4.25, "tokens_per_s": 1001.0},
    {"step": 2, "val_loss": 4.375},
]
WRITTEN = [{"at": AT_S + line["step"], **line} for line in LINES]


@pytest.fixture
def store(tmp_path: Path) -> HookedStore:
    return HookedStore(tmp_path / "checkpoints")


@pytest.fixture
def build(
    store: HookedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[float], Metrics]:
    """Makes the files of an epoch, uploaded every so often."""

    def build(upload_s: float) -> Metrics:
        monkeypatch.setattr(module, "UPLOAD_S", upload_s)
        return Metrics(store, RUN, EPOCH, tmp_path / "board")

    return build


def add(metrics: Metrics, line: dict[str, float]) -> None:
    """A step a second."""
    metrics.add(AT_S + line["step"], line)


def lines(store: Store) -> list[dict[str, float]]:
    """As they stand in the store."""
    try:
        content = store.get(JSONL)
    except Missing:
        return []
    return [json.loads(line) for line in content.decode().splitlines()]


def board(store: Store, folder: Path) -> dict[str, list[tuple[float, int, float]]]:
    """What TensorBoard reads from a copy of the event files: time, step and value by name."""
    folder.mkdir()
    for info in store.list(BOARD):
        store.get_file(info.key, folder / info.key.rpartition("/")[2])
    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(e.wall_time, e.step, e.value) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_what_was_added_is_in_the_store_after_close_as_lines_and_for_tensorboard(
    build: Callable[[float], Metrics], store: Store, tmp_path: Path
) -> None:
    metrics = build(NEVER_S)

    for line in LINES:
        add(metrics, line)
    metrics.close()

    assert lines(store) == WRITTEN
    assert board(store, tmp_path / "read") == {
        "loss": [(AT_S + 1, 1, 4.5), (AT_S + 2, 2, 4.25)],
        "tokens_per_s": [(AT_S + 1, 1, 1000.25), (AT_S + 2, 2, 1001.0)],
        "val_loss": [(AT_S + 2, 2, 4.375)],
    }


def test_fast_steps_are_all_lines_but_tensorboard_gets_some_and_a_clock_set_back_ends_no_curve(
    build: Callable[[float], Metrics], store: Store, tmp_path: Path
) -> None:
    metrics = build(NEVER_S)
    hour_back = [AT_S - 3600 + step / 100 for step in range(50, 100)]
    times_s = [AT_S + step / 100 for step in range(50)] + hour_back

    for step, at_s in enumerate(times_s):
        metrics.add(at_s, {"step": step, "loss": float(step)})
    metrics.add(times_s[-1], {"step": 99, "val_loss": 4.0})
    metrics.close()

    assert [line["step"] for line in lines(store)] == [*range(100), 99]
    drawn = board(store, tmp_path / "read")
    assert [step for _, step, _ in drawn["loss"]] == [0, 25, 50, 75]
    assert [step for _, step, _ in drawn["val_loss"]] == [99]


def test_the_more_there_is_the_less_often_all_of_it_goes(
    build: Callable[[float], Metrics], store: HookedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    puts = threading.Semaphore(0)

    def note(operation: Operation, key: str) -> None:
        if (operation, key) == ("put", JSONL):
            puts.release()

    monkeypatch.setattr(module, "UPLOAD_BYTES_S", 1e-3)
    store.before = note
    metrics = build(0.01)
    add(metrics, LINES[0])
    assert puts.acquire(timeout=WAIT_S)

    add(metrics, LINES[1])
    assert not puts.acquire(timeout=0.5)

    metrics.close()
    assert puts.acquire(timeout=WAIT_S)


def test_figures_are_uploaded_while_training_goes_on(
    build: Callable[[float], Metrics], store: Store, tmp_path: Path
) -> None:
    metrics = build(0.01)
    deadline = time.monotonic() + WAIT_S

    for count, line in enumerate(LINES, start=1):
        add(metrics, line)
        while len(lines(store)) < count:
            assert time.monotonic() < deadline, f"line {count} is not in the store"
            time.sleep(0.002)
    metrics.close()

    assert lines(store) == WRITTEN
    assert set(board(store, tmp_path / "read")) == {"loss", "tokens_per_s", "val_loss"}


def test_an_upload_at_once_holds_all_that_was_added_so_far(
    build: Callable[[float], Metrics], store: Store, tmp_path: Path
) -> None:
    metrics = build(NEVER_S)
    for line in LINES:
        add(metrics, line)

    metrics.upload()

    assert lines(store) == WRITTEN
    assert set(board(store, tmp_path / "read")) == {"loss", "tokens_per_s", "val_loss"}
    metrics.close()


@pytest.mark.parametrize("within", [JSONL, BOARD], ids=["lines", "board"])
def test_a_store_that_is_away_loses_no_figure_and_raises_nothing(
    build: Callable[[float], Metrics], store: HookedStore, tmp_path: Path, within: str
) -> None:
    metrics = build(NEVER_S)
    store.before = refuse("put", within=within)
    for line in LINES[:2]:
        add(metrics, line)
        metrics.upload()

    store.before = pass_on
    metrics.close()

    assert lines(store) == WRITTEN[:2]
    assert [value for _, _, value in board(store, tmp_path / "read")["loss"]] == [4.5, 4.25]


def test_a_store_that_stays_away_does_not_hold_up_the_end(
    build: Callable[[float], Metrics], store: HookedStore
) -> None:
    metrics = build(0.01)
    store.before = refuse("put")

    add(metrics, LINES[0])
    metrics.close()

    assert lines(store) == []
    assert "metrics" not in {thread.name for thread in threading.enumerate()}


def test_a_step_does_not_wait_for_an_upload(
    build: Callable[[float], Metrics], store: HookedStore
) -> None:
    is_uploading, may_upload = threading.Event(), threading.Event()

    def hold_up(operation: Operation, key: str) -> None:
        is_uploading.set()
        assert may_upload.wait(WAIT_S), f"{operation} {key}: held up for too long"

    metrics = build(0.01)
    add(metrics, LINES[0])
    store.before = hold_up
    add(metrics, LINES[1])
    assert is_uploading.wait(WAIT_S)

    add(metrics, LINES[2])
    may_upload.set()
    metrics.close()

    assert lines(store) == WRITTEN


def test_nothing_new_costs_no_request(
    build: Callable[[float], Metrics], store: HookedStore
) -> None:
    asked: list[str] = []

    def note(operation: Operation, key: str) -> None:
        asked.append(f"{operation} {key}")

    metrics = build(NEVER_S)
    metrics.upload()
    store.before = note
    metrics.upload()
    assert asked == []
    add(metrics, LINES[0])
    metrics.upload()
    before = len(asked)

    metrics.upload()
    metrics.close()

    assert before > 0
    assert len(asked) == before


def test_epochs_do_not_write_into_each_other(store: Store, tmp_path: Path) -> None:
    for epoch in (0, 1):
        metrics = Metrics(store, RUN, epoch, tmp_path / f"board-{epoch}")
        metrics.add(AT_S, {"step": epoch, "loss": float(epoch)})
        metrics.close()

    for epoch in (0, 1):
        content = store.get(f"{RUN}/metrics/{epoch}.jsonl").decode()
        assert json.loads(content) == {"at": AT_S, "step": epoch, "loss": float(epoch)}
        assert len([*store.list(f"{RUN}/tensorboard/{epoch}")]) == 1
