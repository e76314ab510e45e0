"""All that the kit itself declares, for each example stack of AWS, passes its own pack."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from infra.policy.rules import RULES, STACK_RULES, Declared, node_faults
from tests.conftest import ROOT

STACKS = sorted((ROOT / "stacks").glob("Pulumi.aws-*.yaml"))
WAIT_S = 300.0
# What the deployer's rights name by name or path, not by tag.
NAMED: Mapping[str, tuple[str, str]] = {
    "aws:autoscaling/group:Group": ("name", "atoll-"),
    "aws:iam/instanceProfile:InstanceProfile": ("path", "/atoll/"),
    "aws:iam/role:Role": ("path", "/atoll/"),
    "aws:lb/loadBalancer:LoadBalancer": ("name", "atoll-"),
    "aws:lb/targetGroup:TargetGroup": ("name", "atoll-"),
    "aws:s3/bucket:Bucket": ("bucket", "atoll-"),
    "aws:scheduler/scheduleGroup:ScheduleGroup": ("name", "atoll-"),
}


def declared(path: Path, home: Path) -> list[Declared]:
    """Of a stack file, by a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.infra.policy.declare", str(path)],
        cwd=ROOT,
        env={**os.environ, "ATOLL_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return [
        Declared(urn=f"{token}::{name}", token=token, properties=properties)
        for token, name, properties in json.loads(ran.stdout)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("path", STACKS, ids=lambda path: path.stem)
def test_an_example_stack_has_no_fault(path: Path, tmp_path: Path) -> None:
    resources = declared(path, tmp_path)

    assert len(resources) > len(NAMED)
    found = [
        (each.urn, rule.name, fault)
        for each in resources
        for rule in RULES
        for fault in rule.faults(each.token, each.properties)
    ]
    found += [
        (each.urn, rule.name, fault)
        for rule in STACK_RULES
        for each, fault in rule.faults(resources)
    ]
    assert found == []
    assert [each.urn for each in resources if list(node_faults(each.token, each.properties))] == []
    assert {each.token for each in resources} >= NAMED.keys()
    for each in resources:
        name, begins = NAMED.get(each.token, ("", ""))
        assert str(each.properties.get(name, "")).startswith(begins), each.urn
