"""Runs of real node processes on folder stores."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runtime import checkpoint
from runtime.model import export
from runtime.registry import fetch, live_version

if TYPE_CHECKING:
    from tests.runtime.train.conftest import Rig

pytestmark = pytest.mark.slow


def test_two_nodes_train_and_publish_a_live_model(rig: Rig, tmp_path: Path) -> None:
    rig.claim()
    rig.start(0)
    rig.start(1)

    entry = rig.wait_end()

    assert entry.outcome == "published", rig.logs()
    assert [e.members for e in rig.epochs()] == [("training-0", "training-1")]
    live = live_version(rig.control, rig.spec.model_name)
    assert live is not None
    assert live.run == entry.run
    model, _, _ = export.load(
        fetch(rig.store("models"), rig.spec.model_name, live.digest, tmp_path / "m")
    )
    assert model.shape.width == 32
    lines = rig.metrics(0)
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == rig.spec.steps
    assert losses[-1] < losses[0] / 2
    assert lines[-1]["val_bits_per_byte"] < 4


def test_a_killed_node_costs_no_step_and_comes_back(rig: Rig) -> None:
    rig.spec = rig.spec.model_copy(update={"steps": 2000, "checkpoint_every_steps": 200})
    rig.train(0, 1)

    rig.nodes[0].kill()
    rig.start(0)
    entry = rig.wait_end()

    assert entry.outcome == "published", rig.logs()
    epochs = rig.epochs()
    assert len(epochs) >= 2
    assert all(a.resume_step < b.resume_step for a, b in pairwise(epochs))
    assert epochs[1].members == epochs[1].holders == ("training-1",)
    assert epochs[2].members == ("training-0", "training-1")
    counted = [
        line["step"]
        for n in range(len(epochs))
        for line in rig.metrics(n)
        if "loss" in line
        and line["step"] <= min((e.resume_step for e in epochs[n + 1 :]), default=10**9)
    ]
    assert counted == list(range(1, rig.spec.steps + 1))
    kept = checkpoint.commits(rig.store("checkpoints"), entry.run)
    assert kept[-1].step == rig.spec.steps
