"""What a stack says of itself: the same of every cloud, and read by other versions."""

import json
from pathlib import Path

import pytest

from infra.clouds.description import (
    KEY,
    StackDescription,
    describe,
    read_description,
    write_description,
)
from infra.plan.facts import UNSEEN
from infra.plan.plan import plan
from infra.plan.spec import StackSpec
from runtime.errors import Corrupt
from runtime.objects import Store, file_url, open_store


@pytest.fixture
def control(tmp_path: Path) -> Store:
    return open_store(file_url(tmp_path / "control"))


def described() -> StackDescription:
    """Of the default stack."""
    inputs = describe(plan(StackSpec(), UNSEEN), "local", "5e1f0a0b", "http://127.0.0.1:8080")
    return StackDescription.model_validate_json(json.dumps(inputs))


def test_a_plan_is_told_by_its_pools(control: Store) -> None:
    write_description(control, described())

    found = read_description(control)

    assert found == described()
    assert found is not None
    sizes = {pool.role: (pool.nodes_at_rest, pool.nodes_max) for pool in found.pools}
    spec = StackSpec()
    assert sizes == {
        "training": (0, spec.training.nodes),
        "replica": (spec.serving.replicas, spec.serving.replicas),
        "gateway": (spec.serving.gateways, spec.serving.gateways),
    }
    assert (found.cloud, found.region, found.run_hours) == ("local", None, spec.budget.run_hours)


def test_fields_of_a_later_version_are_passed_over(control: Store) -> None:
    later = {**described().model_dump(mode="json"), "new": 1}
    control.put(KEY, json.dumps(later).encode())

    assert read_description(control) == described()


def test_nothing_is_said_before_the_end_of_up_and_rubbish_is_corrupt(control: Store) -> None:
    assert read_description(control) is None

    control.put(KEY, b"[]")

    with pytest.raises(Corrupt, match=r"stack\.json"):
        read_description(control)
