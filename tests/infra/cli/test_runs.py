"""Runs as logs, epochs, presence and metrics tell them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from infra.cli.main import main
from infra.cli.nodes import look
from infra.cli.runs import run_detail, run_shapes
from runtime.limits import ALIVE_S

if TYPE_CHECKING:
    from infra.cli.shapes import RunShape
    from tests.infra.cli.conftest import StandingStack


def only_run(standing: StandingStack) -> RunShape:
    """The one run there is."""
    (shown,) = run_shapes(standing.view(), look(standing.view()))
    return shown


def test_a_run_goes_from_claimed_to_running_to_dead(standing: StandingStack) -> None:
    standing.claim("r1", is_old=True)

    standing.say("training", 0, state="joining", run="r1")
    claimed = only_run(standing)
    standing.epoch("r1", "training-0")
    running = only_run(standing)
    standing.say("training", 0, state="training", run="r1", age_s=ALIVE_S + 1)
    dead = only_run(standing)

    assert (claimed.state, claimed.epoch, claimed.steps) == ("claimed", None, None)
    assert (running.state, running.epoch, running.members) == ("running", 0, ("training-0",))
    assert dead.state == "dead"


def test_an_ended_run_is_told_by_its_last_complete_line_of_metrics(
    standing: StandingStack,
) -> None:
    standing.claim("r1", is_old=True)
    standing.epoch("r1", "training-0", "training-1")
    standing.epoch("r1", "training-0", resume_step=2, why="training-1 was lost")
    standing.metrics("r1", 0, {"step": 3, "loss": 6.0})
    standing.metrics(
        "r1",
        1,
        {"step": 5, "steps": 9, "loss": 4.0},
        {"step": 5, "bits_per_byte": 2.1},
        tail='{"step": 6, "lo',
    )
    standing.end("r1", "failed", "the data was gone")

    shown = only_run(standing)

    assert (shown.state, shown.why) == ("failed", "the data was gone")
    assert (shown.step, shown.steps, shown.loss, shown.epoch) == (5, 9, 4.0, 1)


def test_steps_that_a_later_epoch_took_back_are_not_in_the_history(
    standing: StandingStack,
) -> None:
    standing.claim("r1", is_old=True)
    standing.epoch("r1", "training-0", "training-1")
    standing.epoch("r1", "training-0", resume_step=20)
    standing.epoch("r1", "training-0", "training-1", resume_step=10)
    standing.metrics("r1", 0, *({"step": step} for step in (10, 20, 30)))
    standing.metrics("r1", 1, {"step": 30})
    standing.metrics("r1", 2, {"step": 20}, {"step": 30})

    shown = run_detail(standing.view(), "r1", look(standing.view()))

    assert [(line["epoch"], line["step"]) for line in shown.metrics] == [(0, 10), (2, 20), (2, 30)]
    assert [epoch.resume_step for epoch in shown.epochs] == [0, 20, 10]


def test_show_prints_metrics_and_epochs_as_json_and_for_people(
    standing: StandingStack, capsys: pytest.CaptureFixture[str]
) -> None:
    standing.train("r1")

    code = main(["runs", "show", "r1", "--json"])
    shown = json.loads(capsys.readouterr().out)
    main(["runs", "show", "r1"])
    told = capsys.readouterr().out

    assert code == 0
    assert shown["metrics"] == [{"step": 560, "steps": 560, "loss": 2.5, "epoch": 0}]
    assert shown["epochs"][0]["members"] == ["training-0", "training-1"]
    assert "training-0, training-1" in told
    assert "2.5" in told


def test_many_runs_are_listed_newest_first(
    standing: StandingStack, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in ("a", "b", "c"):
        standing.train(run)

    main(["runs", "list", "--json"])

    assert [run["run"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["c", "b", "a"]


def test_an_unknown_run_names_those_that_there_are(
    standing: StandingStack, capsys: pytest.CaptureFixture[str]
) -> None:
    standing.train("r1")

    assert main(["runs", "show", "r2"]) == 1
    assert "allowed r1" in capsys.readouterr().err


def test_models_are_listed_with_the_live_one_marked(
    standing: StandingStack, capsys: pytest.CaptureFixture[str]
) -> None:
    older = standing.train("r1")
    newer = standing.train("r2")

    main(["models", "list", "--json"])

    shown = json.loads(capsys.readouterr().out)["models"]
    assert [(model["digest"], model["live"]) for model in shown] == [(newer, True), (older, False)]
    assert shown[0]["metrics"] == {"bits_per_byte": 1.87}
