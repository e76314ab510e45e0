"""A heart on a real folder: what is written, when, and what a store that is away costs."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from runtime.coordination import presence as module
from runtime.coordination.log import Presence
from runtime.coordination.presence import Heart
from runtime.errors import Missing
from runtime.objects import Store
from tests.doubles.store import HookedStore, Operation, pass_on, refuse

KEY = "nodes/training-0"
WAIT_S = 20.0
NEVER_S = 1000.0  # a beat that no test lives to see
SOON_S = 0.01
SAID = 4000  # long enough for the heart to wake up in between, if it were woken

Beats = Callable[[float], None]


@pytest.fixture
def beats(monkeypatch: pytest.MonkeyPatch) -> Beats:
    """Sets the time between two beats."""
    return lambda beat_s: monkeypatch.setattr(module, "BEAT_S", beat_s)


@pytest.fixture
def control(tmp_path: Path) -> HookedStore:
    return HookedStore(tmp_path / "control")


@pytest.fixture
def heart(control: HookedStore) -> Iterator[Heart]:
    heart = Heart(
        control,
        Presence(
            node="training-0",
            pool="training",
            role="training",
            address="127.0.0.1",
            boot_id="b",
            pid=1,
            state="starting",
        ),
    )
    yield heart
    heart.stop()


def told(control: Store) -> Presence | None:
    """What stands in the folder."""
    try:
        return Presence.model_validate_json(control.get(KEY))
    except Missing:
        return None


def wait_until(is_so: Callable[[Presence], bool], control: Store) -> Presence:
    """The presence, once it is so."""
    deadline = time.monotonic() + WAIT_S
    while (found := told(control)) is None or not is_so(found):
        assert time.monotonic() < deadline, f"not within {WAIT_S:.0f} s; found {found}"
        time.sleep(0.002)
    return found


class Written:
    """Counts puts, and the beats that they told of."""

    def __init__(self, control: HookedStore) -> None:
        self.control = control
        self.beats: list[int] = []

    def __call__(self, operation: Operation, key: str) -> None:
        if operation == "put":
            found = told(self.control)
            assert found is not None
            self.beats.append(found.beat)


def test_a_node_is_there_before_anything_else_happens(
    heart: Heart, control: HookedStore, beats: Beats
) -> None:
    beats(NEVER_S)

    heart.start()

    found = told(control)
    assert found is not None
    assert (found.state, found.beat) == ("starting", 1)


@pytest.mark.parametrize(
    "change",
    [
        {"state": "ready"},
        {"run": "run-1"},
        {"epoch": 0},
        {"port": 8000},
        {"model": "d"},
        {"why": "no data"},
    ],
    ids=str,
)
def test_what_others_wait_for_is_written_without_waiting_for_the_beat(
    heart: Heart, control: HookedStore, beats: Beats, change: dict[str, object]
) -> None:
    beats(NEVER_S)
    heart.start()

    heart.say(**change)

    wait_until(lambda found: change.items() <= found.model_dump().items(), control)


def test_what_changes_with_every_step_waits_for_the_beat(
    heart: Heart, control: HookedStore, beats: Beats
) -> None:
    beats(NEVER_S)
    written = Written(control)
    control.after = written
    heart.start()

    for step in range(SAID):
        heart.say(step=step, loss=1.0 / (step + 1), tokens_per_s=float(step))
    heart.stop()

    assert written.beats == [1, 2]
    found = told(control)
    assert found is not None
    assert found.step == SAID - 1


def test_each_beat_is_told_from_the_one_before(
    heart: Heart, control: HookedStore, beats: Beats
) -> None:
    beats(SOON_S)
    written = Written(control)
    control.after = written
    heart.start()

    wait_until(lambda found: found.beat >= 5, control)
    heart.stop()

    assert written.beats == list(range(1, len(written.beats) + 1))


def test_the_last_state_is_written_and_then_nothing_more(
    heart: Heart, control: HookedStore, beats: Beats
) -> None:
    beats(SOON_S)
    heart.start()

    heart.say(state="stopped")
    heart.stop()

    found = told(control)
    assert found is not None
    assert found.state == "stopped"
    control.delete(KEY)
    heart.stop()
    assert told(control) is None
    assert "heart" not in {thread.name for thread in threading.enumerate()}


def test_the_last_state_is_written_also_when_a_beat_is_on_its_way(
    heart: Heart, control: HookedStore, beats: Beats
) -> None:
    beats(NEVER_S)
    heart.start()
    is_writing, may_write = threading.Event(), threading.Event()

    def hold_up(operation: Operation, key: str) -> None:
        is_writing.set()
        assert may_write.wait(WAIT_S), f"{operation} {key}: held up for too long"

    control.before = hold_up
    heart.say(state="training")
    assert is_writing.wait(WAIT_S)
    control.before = pass_on

    heart.say(state="refused", why="no data")
    stopping = threading.Thread(target=heart.stop)
    stopping.start()
    while not heart._stopped:  # nothing else tells that it has begun
        time.sleep(0.001)
    may_write.set()
    stopping.join(WAIT_S)

    found = told(control)
    assert found is not None
    assert (found.state, found.why) == ("refused", "no data")


def test_a_store_that_is_away_costs_beats_and_not_the_heart(
    heart: Heart, control: HookedStore, beats: Beats
) -> None:
    beats(SOON_S)
    refused = threading.Event()
    away = refuse("put")

    def refuse_put(operation: Operation, key: str) -> None:
        if operation == "put":
            refused.set()
        away(operation, key)

    control.before = refuse_put
    heart.start()
    heart.say(state="training")
    assert refused.wait(WAIT_S)
    assert told(control) is None

    control.before = pass_on

    found = wait_until(lambda found: found.state == "training", control)
    assert found.beat > 1


def test_changes_of_many_threads_are_all_kept(heart: Heart, control: HookedStore) -> None:
    changes: list[dict[str, object]] = [
        {"step": 7}, {"loss": 0.5}, {"port": 8000}, {"model": "d"}, {"run": "run-1"}, {"epoch": 3},
        {"devices": 2}, {"why": "so"},
    ]  # fmt: skip
    heart.start()
    together = threading.Barrier(len(changes))

    def say(change: dict[str, object]) -> None:
        together.wait(WAIT_S)
        heart.say(**change)

    threads = [threading.Thread(target=say, args=(change,)) for change in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    heart.stop()

    found = told(control)
    assert found is not None
    for change in changes:
        assert change.items() <= found.model_dump().items()


def test_a_field_that_presence_has_not_is_refused_where_it_is_said(heart: Heart) -> None:
    with pytest.raises(ValidationError, match="stepp"):
        heart.say(stepp=3)

    assert heart.presence.step == 0
