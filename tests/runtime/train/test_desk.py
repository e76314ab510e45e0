"""What a session asks of a real folder: how often, and what comes of it."""

import queue
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtime.coordination.next_epoch import Propose
from runtime.coordination.rendezvous import Rendezvous
from runtime.train.desk import Desk, Proposed, Seen
from tests.doubles.store import HookedStore, Operation

AT = datetime(2026, 1, 2, tzinfo=UTC)
RUN = "run-1"
ANSWER_S = 30
EPOCHS = 3


@pytest.fixture
def control(tmp_path: Path) -> HookedStore:
    return HookedStore(tmp_path / "control")


@pytest.fixture
def asked(control: HookedStore) -> list[tuple[Operation, str]]:
    """The calls from now on."""
    calls: list[tuple[Operation, str]] = []
    control.before = lambda operation, key: calls.append((operation, key))
    return calls


def rendezvous(control: HookedStore) -> Rendezvous:
    return Rendezvous(control, "training", RUN, "training-1", 0)


def proposal(number: int) -> Propose:
    return Propose(
        number=number,
        members=("training-1",),
        address="127.0.0.11",
        holders=("training-1",),
        resume_step=number,
        why="first",
    )


def desk(control: HookedStore, inbox: "queue.SimpleQueue[object]") -> Desk:
    return Desk(lambda: rendezvous(control), control, inbox, time.monotonic)


@pytest.fixture
def epochs(control: HookedStore) -> None:
    """Some that another node has decided."""
    other = rendezvous(control)
    for number in range(EPOCHS):
        assert other.propose(proposal(number), number, AT)


@pytest.mark.usefixtures("epochs")
def test_who_has_looked_decides_an_epoch_by_one_call(
    control: HookedStore, asked: list[tuple[Operation, str]]
) -> None:
    inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
    mine = desk(control, inbox)
    mine.look(at_peers=False)
    assert isinstance(inbox.get(timeout=ANSWER_S), Seen)

    for number in (EPOCHS, EPOCHS + 1):  # the second without a look in between
        asked.clear()
        mine.propose(proposal(number))

        answer = inbox.get(timeout=ANSWER_S)
        assert isinstance(answer, Proposed)
        assert answer.record is not None
        assert asked == [("put_if_absent", f"runs/{RUN}/epochs/{number:08d}")]


@pytest.mark.usefixtures("epochs")
def test_who_was_told_of_epochs_but_has_not_looked_reads_them_first(control: HookedStore) -> None:
    inbox: queue.SimpleQueue[object] = queue.SimpleQueue()

    desk(control, inbox).propose(proposal(EPOCHS))

    answer = inbox.get(timeout=ANSWER_S)
    assert isinstance(answer, Proposed)
    assert answer.record is not None
    assert len(rendezvous(control).epochs()) == EPOCHS + 1


@pytest.mark.usefixtures("epochs")
def test_who_is_late_learns_the_winner_and_decides_the_one_after_by_one_call(
    control: HookedStore, asked: list[tuple[Operation, str]]
) -> None:
    inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
    mine, other = desk(control, inbox), rendezvous(control)
    mine.look(at_peers=False)
    assert isinstance(inbox.get(timeout=ANSWER_S), Seen)
    other.epochs()
    assert other.propose(proposal(EPOCHS), EPOCHS, AT)

    mine.propose(proposal(EPOCHS))

    late = inbox.get(timeout=ANSWER_S)
    assert isinstance(late, Proposed)
    assert late.record is None
    asked.clear()
    mine.propose(proposal(EPOCHS + 1))
    next_one = inbox.get(timeout=ANSWER_S)
    assert isinstance(next_one, Proposed)
    assert next_one.record is not None
    assert len(asked) == 1
