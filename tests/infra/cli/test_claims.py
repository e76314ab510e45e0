"""Starting and ending runs: the log decides, the pool follows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from infra.cli.claims import new_run_name, start_run
from infra.cli.main import main
from runtime.errors import Refused

if TYPE_CHECKING:
    from runtime.coordination.log import Outcome
    from tests.infra.cli.conftest import StandingStack

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_start_claims_a_run_and_makes_its_pool_grow(
    standing: StandingStack, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper = standing.keep("training", 0)

    code = main(["runs", "start", "--json"])

    started = json.loads(capsys.readouterr().out)
    open_run = standing.log().state().open_run
    assert code == 0
    assert open_run is not None
    assert started == {"run": open_run.run, "pool": "training", "nodes": 2}
    assert keeper.size == 2


def test_start_is_refused_while_a_run_is_live_and_changes_nothing(
    standing: StandingStack, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper = standing.keep("training", 1)
    standing.claim("r1", is_old=True)
    standing.say("training", 0, state="training", run="r1")

    code = main(["runs", "start"])

    assert code == 1
    assert "atoll runs stop r1 --stack local" in capsys.readouterr().err
    assert len(standing.log().state().runs) == 1
    assert keeper.size == 1


def commit(standing: StandingStack, run: str, epoch: int, step: int) -> None:
    """A checkpoint of it, by its name."""
    standing.store("checkpoints").put(f"{run}/commits/{epoch}-{step:08d}", b"{}")


def test_resume_claims_a_stopped_run_again(
    standing: StandingStack, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper = standing.keep("training", 0)
    standing.claim("r1", is_old=True)
    standing.epoch("r1", "training-0")
    commit(standing, "r1", 0, 50)
    standing.end("r1", "cancelled")

    code = main(["runs", "resume", "r1", "--json"])

    assert code == 0
    assert json.loads(capsys.readouterr().out) == {"run": "r1", "pool": "training", "nodes": 2}
    open_run = standing.log().state().open_run
    assert open_run is not None
    assert (open_run.run, open_run.number) == ("r1", 2)
    assert keeper.size == 2


@pytest.mark.parametrize(
    ("outcome", "step", "told"),
    [
        ("published", 50, "found published; allowed failed, cancelled or no-capacity"),
        ("failed", None, "found no checkpoint of it"),
        ("failed", 99, "found no checkpoint of it"),  # a later epoch took it back
    ],
)
def test_resume_is_refused_where_there_is_nothing_to_go_on_with(
    standing: StandingStack,
    capsys: pytest.CaptureFixture[str],
    outcome: Outcome,
    step: int | None,
    told: str,
) -> None:
    standing.claim("r1", is_old=True)
    standing.epoch("r1", "training-0")
    standing.epoch("r1", "training-0", resume_step=50)
    if step is not None:
        commit(standing, "r1", 0, step)
    standing.end("r1", outcome)

    code = main(["runs", "resume", "r1"])

    assert code == 1
    assert told in capsys.readouterr().err
    assert standing.log().state().open_run is None


def test_resume_is_refused_while_the_run_lives(
    standing: StandingStack, capsys: pytest.CaptureFixture[str]
) -> None:
    standing.claim("r1", is_old=True)
    standing.say("training", 0, state="training", run="r1")

    assert main(["runs", "resume", "r1"]) == 1
    assert "is live" in capsys.readouterr().err


def test_start_closes_a_claimed_run_that_is_dead(standing: StandingStack) -> None:
    standing.keep("training", 0)
    standing.claim("r1", is_old=True)

    start_run(standing.view(), "r2", NOON)

    state = standing.log().state()
    assert [(run.run, run.outcome) for run in state.runs] == [("r1", "failed"), ("r2", None)]
    assert "no member was alive" in state.runs[0].why


def test_start_is_refused_while_the_pool_is_held(standing: StandingStack) -> None:
    standing.keep("training", 0)
    standing.log().hold("destroy of local", NOON)

    with pytest.raises(Refused, match="held by destroy of local"):
        start_run(standing.view(), "r1", NOON)

    assert standing.log().state().runs == ()


def test_start_leaves_no_open_run_where_nobody_keeps_the_pool(standing: StandingStack) -> None:
    with pytest.raises(Refused, match="nobody keeps it"):
        start_run(standing.view(), "r1", NOON)

    state = standing.log().state()
    assert state.open_run is None
    assert state.runs[0].outcome == "failed"


def test_stop_ends_a_run_and_lets_its_pool_rest_once(
    standing: StandingStack, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper = standing.keep("training", 2)
    standing.claim("r1")

    assert main(["runs", "stop", "r1", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(["runs", "stop", "r1", "--force", "--json"]) == 0
    second = json.loads(capsys.readouterr().out)

    assert first == {"run": "r1", "state": "cancelled", "is_changed": True}
    assert second == {"run": "r1", "state": "cancelled", "is_changed": False}
    assert keeper.size == 0


def test_stop_of_an_old_run_does_not_shrink_the_pool_of_a_new_one(
    standing: StandingStack,
) -> None:
    keeper = standing.keep("training", 2)
    standing.train("r1")
    standing.claim("r2")

    main(["runs", "stop", "r1"])

    assert keeper.size == 2


def test_stop_works_where_nobody_keeps_the_pool(standing: StandingStack) -> None:
    standing.claim("r1")

    assert main(["runs", "stop", "r1"]) == 0
    assert standing.log().state().open_run is None


def test_names_of_runs_sort_by_time_and_differ_within_a_second() -> None:
    names = {new_run_name(NOON) for _ in range(20)}

    assert len(names) > 1
    assert min(names) > new_run_name(NOON.replace(hour=11))
