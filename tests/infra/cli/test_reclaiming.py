"""A reclaim goes to the keeper of the node's pool, or is refused with the nodes there are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from infra.cli.main import main

if TYPE_CHECKING:
    from tests.infra.cli.conftest import StandingStack


def test_a_node_gets_notice_from_the_keeper_of_its_pool(
    standing: StandingStack, capsys: pytest.CaptureFixture[str]
) -> None:
    training, replica = standing.keep("training", 2), standing.keep("replica", 2)

    assert main(["reclaim", "training-1", "--after", "20", "--json"]) == 0

    shown = json.loads(capsys.readouterr().out)
    assert shown == {"node": "training-1", "pool": "training", "after_s": 20.0}
    assert training.reclaimed == [("training-1", 20.0)]
    assert replica.reclaimed == []


def test_a_node_that_does_not_run_is_refused_with_those_that_do(
    standing: StandingStack, capsys: pytest.CaptureFixture[str]
) -> None:
    standing.keep("training", 1)

    assert main(["reclaim", "training-1"]) == 1

    assert "training-0" in capsys.readouterr().err
