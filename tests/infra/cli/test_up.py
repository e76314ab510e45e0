"""`up` and `down` around an engine that is played; stores, logs and keepers are real."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from infra.cli import ask as ask_module
from infra.cli.ask import Busy, Question
from infra.cli.deployer import Deployer, Outputs
from infra.cli.down import down
from infra.cli.screen import Screen, console_on
from infra.cli.shapes import AnswerShape, UpShape
from infra.cli.up import PROMPT, up
from runtime.errors import Refused, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

    from tests.infra.cli.conftest import ScriptedClock, StandingStack


class PlayedDeployer(Deployer):
    """An engine that does what the test says."""

    def __init__(self, screen: Screen, is_changed: bool = False) -> None:
        super().__init__("local", screen)
        self.is_changed = is_changed
        self.deeds: list[str] = []
        self.on_destroy: Callable[[], bool] = lambda: True

    def up(self) -> bool:
        """As told."""
        self.deeds.append("up")
        return self.is_changed

    def destroy(self) -> bool:
        """As told."""
        self.deeds.append("destroy")
        return self.on_destroy()

    def outputs(self) -> Outputs:
        """Of the played stack."""
        return Outputs(endpoint_url="http://127.9.9.1:8080", api_key="k")


class Played:
    """One `up`, its engine, its screen and its endpoint."""

    def __init__(
        self, home: Path, scripted: ScriptedClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.home, self.scripted = home, scripted
        self.stream = io.StringIO()
        self.screen = Screen()
        self.screen.console = console_on(self.stream)
        self.deployer = PlayedDeployer(self.screen)
        self.refusals = 0
        monkeypatch.setattr(ask_module, "ask", self._ask)

    def up(self) -> UpShape:
        """Run it."""
        return up(self.home, self.deployer, self.screen, self.scripted.clock)

    @property
    def lines(self) -> list[str]:
        """What a person saw."""
        return self.stream.getvalue().splitlines()

    def _ask(
        self, url: str, key: str, question: Question, show: Callable[[str], None]
    ) -> AnswerShape:
        if self.refusals:
            self.refusals -= 1
            raise Busy("no replica is ready")
        assert (url, key) == ("http://127.9.9.1:8080", "k")
        show("    return list(path)")
        return AnswerShape(
            model="atoll-code",
            prompt=question.prompt,
            text="    return list(path)",
            finish_reason="length",
            completion_tokens=8,
        )


@pytest.fixture
def played(home: Path, scripted: ScriptedClock, monkeypatch: pytest.MonkeyPatch) -> Played:
    """An `up` that is not yet run."""
    return Played(home, scripted, monkeypatch)


def keep_all(standing: StandingStack) -> None:
    """All keepers at rest."""
    standing.keep("training", 0)
    standing.keep("replica", 2)
    standing.keep("gateway", 2)


def test_the_first_up_trains_serves_and_answers_in_this_order(
    standing: StandingStack, played: Played
) -> None:
    keep_all(standing)
    played.deployer.is_changed = True
    played.refusals = 2

    def train() -> None:
        run = standing.log().state().open_run
        assert run is not None
        standing.epoch(run.run, "training-0", "training-1")
        standing.say("training", 0, state="training", run=run.run, step=9, steps=560, loss=5.5)

    def publish() -> None:
        run = standing.log().state().open_run
        assert run is not None
        digest = standing.publish(run.run, run.number)
        standing.end(run.run)
        played.scripted.scenes.append(lambda: standing.serve(digest))

    played.scripted.scenes = [train, publish]

    shape = played.up()

    order = [
        next(i for i, line in enumerate(played.lines) if start in line)
        for start in (
            "claimed; 2 nodes are starting",
            "step 9/560  loss 5.500",
            " published",
            "validation 1.870 bits per byte",
            "replica replica-0 ready",
            PROMPT.strip(),
            "endpoint http://127.9.9.1:8080",
            "  atoll ask ",
            "  atoll status",
            "  make down",
        )
    ]
    assert order == sorted(order)
    assert shape.answer is not None
    assert shape.model is not None
    assert (shape.is_changed, shape.run) == (True, standing.log().state().runs[0].run)
    assert "\x1b" not in played.stream.getvalue()


def test_the_second_up_says_that_there_is_nothing_to_change(
    standing: StandingStack, played: Played
) -> None:
    keep_all(standing)
    standing.serve(standing.train("r1"))

    shape = played.up()

    assert (shape.is_changed, shape.run, shape.answer) == (False, None, None)
    assert "nothing to change: stack local is up" in played.lines
    assert played.scripted.now_s == 0
    assert len(standing.log().state().runs) == 1


def test_after_something_was_healed_the_question_is_asked_again(
    standing: StandingStack, played: Played
) -> None:
    keep_all(standing)
    played.deployer.is_changed = True
    standing.serve(standing.train("r1"))

    assert played.up().answer is not None


def test_while_a_run_is_live_nothing_is_changed_and_it_is_followed(
    standing: StandingStack, played: Played
) -> None:
    keep_all(standing)
    number = standing.claim("r1")
    standing.epoch("r1", "training-0")
    standing.say("training", 0, state="training", run="r1")

    def finish() -> None:
        digest = standing.publish("r1", number)
        standing.end("r1")
        standing.serve(digest)

    played.scripted.scenes = [finish]

    shape = played.up()

    assert played.deployer.deeds == []
    assert shape.run == "r1"
    assert played.lines[0] == "run r1 is live in stack local: nothing is changed meanwhile"


def test_a_failed_run_is_a_refusal_with_its_reason(standing: StandingStack, played: Played) -> None:
    keep_all(standing)
    standing.claim("r1")
    played.scripted.scenes = [lambda: standing.end("r1", "no-capacity", "1 of 2 nodes came")]

    with pytest.raises(Refused, match="run r1 no-capacity: 1 of 2 nodes came"):
        played.up()


def test_a_run_whose_nodes_died_with_the_machine_goes_on(
    standing: StandingStack, played: Played
) -> None:
    keep_all(standing)
    number = standing.claim("r1", is_old=True)
    standing.epoch("r1", "training-0")

    def finish() -> None:
        digest = standing.publish("r1", number)
        standing.end("r1")
        standing.serve(digest)

    played.scripted.scenes = [finish]

    shape = played.up()

    assert played.deployer.deeds == ["up"]
    assert standing.keepers["training"].size == 2
    assert shape.run == "r1"


def test_a_run_that_was_claimed_by_a_killed_up_gets_its_nodes(
    standing: StandingStack, played: Played
) -> None:
    keep_all(standing)
    standing.claim("r1")
    played.scripted.scenes = [lambda: standing.end("r1", "failed", "enough")]

    with pytest.raises(Refused, match="failed: enough"):
        played.up()

    assert standing.keepers["training"].size == 2
    assert played.deployer.deeds == []


def test_a_claim_on_a_pool_that_nobody_keeps_does_not_stop_the_engine(
    standing: StandingStack, played: Played
) -> None:
    standing.claim("r1")
    standing.serve(standing.publish("r0", 0))

    played.up()

    assert played.deployer.deeds == ["up"]
    assert standing.log().state().runs[0].why == "nobody kept its pool"


def test_a_hold_that_a_killed_up_left_is_let_go(standing: StandingStack, played: Played) -> None:
    keep_all(standing)
    standing.hold("up of local")
    played.scripted.scenes = [
        lambda: standing.end(standing.log().state().runs[0].run, "failed", "enough")
    ]

    with pytest.raises(Refused, match="failed: enough"):
        played.up()

    assert standing.log().state().hold is None


def test_an_endpoint_that_stays_silent_is_given_up(standing: StandingStack, played: Played) -> None:
    keep_all(standing)
    played.deployer.is_changed = True
    standing.serve(standing.train("r1"))
    played.refusals = 1000

    with pytest.raises(Unavailable, match="no replica is ready"):
        played.up()


def test_replicas_that_never_turn_ready_are_given_up(
    standing: StandingStack, played: Played
) -> None:
    keep_all(standing)
    standing.train("r1")

    with pytest.raises(Unavailable, match="no replica was ready"):
        played.up()


def test_one_replica_that_does_not_come_is_not_waited_for_forever(
    standing: StandingStack, played: Played
) -> None:
    keep_all(standing)
    played.deployer.is_changed = True
    digest = standing.train("r1")
    standing.serve(digest)
    standing.say("replica", 1, state="warming")

    def beat() -> None:
        standing.serve(digest)
        standing.say("replica", 1, state="warming")

    played.scripted.scenes = [beat] * 100

    assert played.up().answer is not None


def test_down_prints_the_proof(standing: StandingStack, played: Played) -> None:
    standing.close()
    played.deployer.on_destroy = standing.remove

    shape = down(played.home, played.deployer, played.screen, played.scripted.clock, False)

    assert (shape.is_destroyed, shape.left) == (True, ())
    assert played.lines[-1] == "stack local: 0 left"


def test_down_lists_what_is_left_even_after_the_marker_is_gone(
    standing: StandingStack, played: Played
) -> None:
    standing.close()

    def destroy() -> bool:
        standing.remove()
        (standing.folder / "forgotten").mkdir(parents=True)
        return True

    played.deployer.on_destroy = destroy

    shape = down(played.home, played.deployer, played.screen, played.scripted.clock, False)

    assert [item.kind for item in shape.left] == ["folder"]
    assert played.lines[-1] == "stack local: 1 left"


def test_down_leaves_a_live_run_to_the_guard_unless_forced(
    standing: StandingStack, played: Played
) -> None:
    standing.keep("training", 2)
    standing.claim("r1")
    played.deployer.on_destroy = lambda: False
    clock = played.scripted.clock

    gentle = down(played.home, played.deployer, played.screen, clock, False)
    still_open = standing.log().state().open_run
    down(played.home, played.deployer, played.screen, clock, True)

    assert gentle.is_destroyed is False
    assert still_open is not None
    assert standing.log().state().runs[0].outcome == "cancelled"
    assert standing.keepers["training"].size == 0


def test_down_of_what_never_was_leaves_nothing(home: Path, played: Played) -> None:
    shape = down(home, played.deployer, played.screen, played.scripted.clock, False)

    assert shape.left == ()
