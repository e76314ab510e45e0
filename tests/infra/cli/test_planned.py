"""`atoll plan`: from a stack file to what would exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infra.cli.planned import planned, print_plan
from infra.cli.screen import Screen
from runtime.errors import Refused

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, text: str) -> None:
    """The stack file of stack local."""
    (folder / "Pulumi.local.yaml").write_text(text)


def test_an_empty_stack_file_means_all_defaults(tmp_path: Path) -> None:
    write(tmp_path, "")

    shape = planned("local", tmp_path)

    assert [(pool.pool, pool.nodes_at_rest, pool.nodes_max) for pool in shape.pools] == [
        ("training", 0, 2),
        ("replica", 2, 2),
        ("gateway", 2, 2),
    ]
    assert {store.role for store in shape.stores} >= {"control", "models"}
    assert shape.price_per_hour_usd == 0.0
    assert shape.price_note


def test_settings_reach_the_plan(tmp_path: Path) -> None:
    write(
        tmp_path,
        "config:\n"
        "  atoll:cluster: {retain_data: [models]}\n"
        "  atoll:training: {nodes: 3}\n"
        "  atoll:access: {port: 9090}\n"
        "  other:key: 1\n",
    )

    shape = planned("local", tmp_path)

    assert shape.pools[0].nodes_max == 3
    assert shape.pools[0].settings["nodes"] == 3
    assert shape.endpoint_port == 9090
    assert [store.role for store in shape.stores if store.is_retained] == ["models"]


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    write(tmp_path, "config:\n  atoll:training: {nodes: 0}\n  atoll:serving: {replcas: 2}\n")

    with pytest.raises(Refused) as refused:
        planned("local", tmp_path)

    assert "atoll:training.nodes" in str(refused.value)
    assert "replicas" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("config: [1, 2]", "no mapping"),
        ("- 1", "no mapping"),
        ("config: {", "Pulumi.local.yaml"),
    ],
)
def test_what_is_no_stack_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, text)

    with pytest.raises(Refused, match=said):
        planned("local", tmp_path)


def test_a_missing_stack_file_names_those_that_there_are(tmp_path: Path) -> None:
    write(tmp_path, "")

    with pytest.raises(Refused, match="allowed local"):
        planned("nowhere", tmp_path)


RENTED = """config:
  atoll:cluster: {cloud: aws, region: us-east-1, zones: [us-east-1a, us-east-1b]}
  atoll:pools:
    training: {machines: [g6.xlarge, g5.xlarge], capacity: spot}
    replica: {machines: [c7i.xlarge]}
    gateway: {machines: [t3.large]}
  atoll:access: {tls: managed, domain: models.example.org, allowed_ranges: [0.0.0.0/0]}
"""


def test_a_rented_stack_is_priced_by_part_for_people_and_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, RENTED)

    shape = planned("local", tmp_path)
    print_plan(shape, Screen())

    told = capsys.readouterr().out
    assert {cost.part for cost in shape.costs} >= {"training nodes", "balancer", "stores"}
    assert "2 x g6.xlarge or g5.xlarge, spot" in told
    assert f"{shape.price_per_hour_usd:.2f} USD per hour: list prices of 20" in told
    assert f"{shape.price_per_run_usd:.2f} USD for a run" in told
    assert "advice: atoll:pools.training.machines: 1 x L4 are paid for" in told
