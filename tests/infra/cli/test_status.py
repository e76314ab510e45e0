"""What `atoll status` says about a stack, as a person and as a program see it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from infra.cli.main import main
from infra.cli.nodes import look, node_shapes
from infra.cli.status import status
from runtime.limits import ALIVE_S

if TYPE_CHECKING:
    from tests.infra.cli.conftest import StandingStack

ESCAPE = "\x1b"


def test_json_has_the_names_that_others_rely_on(
    standing: StandingStack, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = standing.train("r1")
    standing.keep("replica", 1)
    standing.keep("gateway", 1)
    standing.serve(digest)

    code = main(["status", "--json"])

    shown = json.loads(capsys.readouterr().out)
    assert code == 0
    assert {"stack", "endpoint_url", "nodes", "runs", "models", "replicas", "gateways"} <= set(
        shown
    )
    assert {"node", "pool", "address", "pid", "state"} <= set(shown["nodes"][0])
    assert {"run", "state", "step", "steps", "loss", "epoch", "members"} <= set(shown["runs"][0])
    assert {"name", "digest", "live"} <= set(shown["models"][0])
    assert {"node", "pid", "state", "model", "address"} <= set(shown["replicas"][0])
    assert {"node", "pid", "state", "address"} <= set(shown["gateways"][0])


def test_a_stack_at_work_is_told_with_its_figures(standing: StandingStack) -> None:
    digest = standing.train("r1")
    standing.keep("replica", 2)
    standing.keep("gateway", 2)
    standing.keep("training", 2)
    standing.serve(digest)
    standing.claim("r2")
    standing.epoch("r2", "training-0", "training-1")
    for index, step in enumerate((41, 40)):
        standing.say(
            "training", index, state="training", run="r2", epoch=0, step=step, steps=560, loss=4.5
        )

    shown = status(standing.view())

    assert shown.endpoint_url == "http://127.9.9.1:8080"
    assert [node.node for node in shown.nodes] == [
        "gateway-0",
        "gateway-1",
        "replica-0",
        "replica-1",
        "training-0",
        "training-1",
    ]
    assert {node.pid for node in shown.nodes} == {os.getpid()}
    assert [(run.run, run.state) for run in shown.runs] == [("r2", "running"), ("r1", "published")]
    newest = shown.runs[0]
    assert (newest.step, newest.steps, newest.loss, newest.epoch) == (41, 560, 4.5, 0)
    assert newest.members == ("training-0", "training-1")
    assert [(model.digest, model.live) for model in shown.models] == [(digest, True)]
    assert {(replica.state, replica.model) for replica in shown.replicas} == {("ready", digest)}
    assert shown.replicas[0].address.endswith(":8000")


def test_a_silent_node_is_lost(standing: StandingStack) -> None:
    standing.keep("replica", 1)
    standing.say("replica", 0, age_s=ALIVE_S + 1, model="d")

    shown = status(standing.view())

    assert [(node.node, node.state) for node in shown.nodes] == [("replica-0", "lost")]
    assert shown.replicas[0].model is None


def test_a_node_whose_process_is_not_the_one_that_spoke_is_starting(
    standing: StandingStack,
) -> None:
    standing.keep("replica", 1)
    standing.say("replica", 0, pid=1)

    shown = node_shapes(standing.view(), look(standing.view()))

    assert [node.state for node in shown] == ["starting"]


def test_why_a_node_was_refused_is_told_while_its_keeper_waits(standing: StandingStack) -> None:
    keeper = standing.keep("replica", 1)
    keeper.states["replica-0"] = "backing-off"
    standing.say("replica", 0, pid=1, state="refused", why="bundle: a byte was flipped")

    (shown,) = node_shapes(standing.view(), look(standing.view()))

    assert (shown.state, shown.why) == ("backing-off", "bundle: a byte was flipped")


def test_without_a_keeper_a_node_is_known_by_its_own_word_until_it_has_left(
    standing: StandingStack,
) -> None:
    standing.say("replica", 0, state="ready")
    standing.say("replica", 1, state="stopped")
    standing.say("gateway", 0, state="ready", age_s=ALIVE_S + 1)

    shown = node_shapes(standing.view(), look(standing.view()))

    assert [(node.node, node.state, node.pid) for node in shown] == [
        ("gateway-0", "lost", None),
        ("replica-0", "ready", os.getpid()),
    ]


def test_a_full_disk_that_a_training_node_tells_of_is_shown(
    standing: StandingStack, capsys: pytest.CaptureFixture[str]
) -> None:
    standing.say("training", 0, state="training", why="commit 50 was not written: disk full")

    main(["status"])

    assert "disk full" in capsys.readouterr().out


def test_lines_for_a_pipe_have_no_colour_even_if_the_environment_forces_it(
    standing: StandingStack,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    standing.train("r1")

    main(["status"])

    shown = capsys.readouterr().out
    assert "published" in shown
    assert ESCAPE not in shown


@pytest.mark.usefixtures("home")
def test_a_stack_that_is_not_there_is_one_sentence_and_status_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["status", "--json", "--stack", "nowhere"])

    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    assert err.startswith("atoll: stack nowhere: found none in")
    assert err.count("\n") == 1


def test_a_name_that_only_left_kept_stores_is_no_stack(
    standing: StandingStack, capsys: pytest.CaptureFixture[str]
) -> None:
    control = standing.folder / "stores" / "control"
    control.rename(standing.home / "gone")

    assert main(["status"]) == 1
    assert "make up" in capsys.readouterr().err


def test_an_unknown_option_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--nope"]) == 2
    assert "--nope" in capsys.readouterr().err
