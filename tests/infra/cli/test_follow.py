"""The view of a run, on a pipe and on a terminal."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.cli.follow import DEAD_S, LINE_S, REFUSED_S, Pace, clock_time, follow
from infra.cli.screen import Screen, console_on
from runtime.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.infra.cli.conftest import ScriptedClock, StandingStack

MEMBERS = ("training-0", "training-1")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def screen_on(stream: io.StringIO) -> Screen:
    """A screen that writes there."""
    screen = Screen()
    screen.console = console_on(stream)
    return screen


def at_step(standing: StandingStack, step: int, loss: float | None) -> Callable[[], object]:
    """A scene: both nodes are at a step."""

    def play() -> None:
        for index in range(2):
            standing.say(
                "training",
                index,
                state="training",
                run="r1",
                epoch=0,
                step=step,
                steps=560,
                loss=loss,
                tokens_per_s=12_800.0 if loss else None,
            )

    return play


def test_a_pipe_gets_the_first_loss_at_once_then_a_line_every_few_seconds(
    standing: StandingStack, scripted: ScriptedClock
) -> None:
    standing.claim("r1")
    scripted.scenes = [
        lambda: standing.say("training", 0, state="joining", run="r1"),
        at_step(standing, 0, None),
        lambda: standing.epoch("r1", *MEMBERS),
        *(at_step(standing, step, 7.0 - step / 10) for step in range(1, 13)),
        lambda: standing.end("r1"),
    ]
    stream = io.StringIO()

    ended = follow(standing.view(), "r1", screen_on(stream), scripted.clock)

    lines = stream.getvalue().splitlines()
    progress = [line for line in lines if line.startswith("step ")]
    assert ended.entry.outcome == "published"
    assert lines[0] == "training-0 joining"
    assert "epoch 0: training-0, training-1 from step 0" in lines
    assert progress[0].startswith("step 1/560  loss 6.900  12,800 tokens/s")
    assert [int(line.split()[1].split("/")[0]) for line in progress] == [1, 6, 11, 12]
    assert LINE_S == 5.0
    assert "ETA" in progress[1]
    assert lines[-2:] == ["step 12/560  loss 5.800  12,800 tokens/s", "run r1 published"]
    assert "\x1b" not in stream.getvalue()


def test_a_lost_node_and_the_epoch_without_it_are_told(
    standing: StandingStack, scripted: ScriptedClock
) -> None:
    standing.claim("r1")
    standing.epoch("r1", *MEMBERS)
    at_step(standing, 60, 4.0)()
    scripted.scenes = [
        lambda: standing.say("training", 1, state="training", run="r1", age_s=60),
        lambda: standing.epoch("r1", "training-0", resume_step=50, why="training-1 was lost"),
        lambda: standing.end("r1", "failed", "the data was gone"),
    ]
    stream = io.StringIO()

    follow(standing.view(), "r1", screen_on(stream), scripted.clock)

    lines = stream.getvalue().splitlines()
    assert "training-1 lost" in lines
    assert "epoch 1: training-0 from step 50 (training-1 was lost)" in lines
    assert lines[-1] == "run r1 failed: the data was gone"


def test_a_terminal_gets_a_picture_that_moves(
    standing: StandingStack, scripted: ScriptedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    standing.claim("r1")
    standing.epoch("r1", *MEMBERS)
    scripted.scenes = [at_step(standing, 7, 6.5), lambda: standing.end("r1")]
    stream = Terminal()

    follow(standing.view(), "r1", screen_on(stream), scripted.clock)

    assert "step 7/560" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()


def test_a_run_whose_nodes_refuse_is_closed_with_their_reason(
    standing: StandingStack, scripted: ScriptedClock
) -> None:
    keeper = standing.keep("training", 2)
    standing.claim("r1")

    def refuse() -> None:
        standing.say("training", 0, state="refused", why="bundle: a byte was flipped")

    refuse()
    scripted.scenes = [refuse] * int(REFUSED_S + 1)

    with pytest.raises(Refused, match="run r1 failed: node training-0: bundle: a byte was flipped"):
        follow(standing.view(), "r1", screen_on(io.StringIO()), scripted.clock)

    assert standing.log().state().runs[0].outcome == "failed"
    assert keeper.size == 0


def test_a_run_that_nobody_works_on_is_closed(
    standing: StandingStack, scripted: ScriptedClock
) -> None:
    standing.claim("r1", is_old=True)

    with pytest.raises(Refused, match="no node of it was alive"):
        follow(standing.view(), "r1", screen_on(io.StringIO()), scripted.clock)

    assert scripted.now_s == pytest.approx(DEAD_S)
    assert standing.log().state().open_run is None


@given(rate=st.integers(1, 50), seconds=st.integers(2, 200), steps=st.integers(10_000, 50_000))
def test_the_time_left_is_exact_at_an_even_pace(rate: int, seconds: int, steps: int) -> None:
    pace = Pace()
    for second in range(1, seconds + 1):
        pace.note(float(second), second * rate)

    left_s = pace.left_s(steps)

    assert left_s == pytest.approx((steps - seconds * rate) / rate)


def test_the_time_left_is_unknown_after_a_step_back() -> None:
    pace = Pace()
    for second, step in ((1.0, 10), (2.0, 20), (3.0, 15)):
        pace.note(second, step)

    assert pace.left_s(100) is None


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(41.2, "41 s"), (59.7, "1 min 00 s"), (200.0, "3 min 20 s"), (7500.0, "2 h 05 min")],
)
def test_durations_are_told_in_two_units(seconds: float, told: str) -> None:
    assert clock_time(seconds) == told
