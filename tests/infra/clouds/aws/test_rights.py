"""Each role may write its own keys and no others; nobody has a wildcard."""

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import get_args

import pytest

from infra.clouds.aws.rights import (
    ACCESS,
    assume_policy,
    group_arn,
    logs_arn,
    node_policy,
    timer_policy,
)
from infra.plan.names import Role, rented_name
from infra.plan.spec import StoreRole

BUCKETS = {role: rented_name("0123abcd", role) for role in get_args(StoreRole)}
GROUP = group_arn("us-east-1", "123456789012", "atoll-0123abcd-training")
LOGS = logs_arn("us-east-1", "123456789012", "0123abcd")
ROLES: tuple[Role, ...] = get_args(Role)


def may(role: Role, action: str, resource: str) -> bool:
    """What IAM would say, for policies that only allow."""
    statements = json.loads(node_policy(role, BUCKETS, GROUP, LOGS))
    return any(
        action in statement["Action"]
        and any(fnmatchcase(resource, pattern) for pattern in statement["Resource"])
        for statement in statements["Statement"]
    )


def key(store: StoreRole, name: str) -> str:
    """An object as IAM names it."""
    return f"arn:aws:s3:::{BUCKETS[store]}/{name}"


@pytest.mark.parametrize("role", ROLES)
def test_a_node_reads_the_runtime_and_what_is_decided(role: Role) -> None:
    assert may(role, "s3:GetObject", key("bundle", "0" * 64))
    assert may(role, "s3:GetObject", key("control", "pools/training/log/0"))
    assert may(role, "s3:ListBucket", f"arn:aws:s3:::{BUCKETS['control']}")


@pytest.mark.parametrize("role", ROLES)
def test_a_node_writes_its_own_presence_and_no_other_pools(role: Role) -> None:
    pools = {
        other: may(role, "s3:PutObject", key("control", f"nodes/{other}-1")) for other in ROLES
    }

    assert pools == {other: other == role for other in ROLES}


@pytest.mark.parametrize("role", ROLES)
def test_nobody_changes_the_runtime_and_only_training_decides_and_trains(role: Role) -> None:
    is_training = role == "training"

    assert not may(role, "s3:PutObject", key("bundle", "0" * 64))
    assert may(role, "s3:PutObject", key("control", "runs/r/epochs/1")) == is_training
    assert may(role, "s3:PutObject", key("checkpoints", "r/a/0")) == is_training
    assert may(role, "s3:PutObject", key("models", "m/d/manifest")) == is_training
    assert may(role, "s3:DeleteObject", key("models", "m/d/manifest")) == is_training
    assert not may(role, "s3:DeleteObject", key("control", "pools/training/log/0"))


def test_a_gateway_sees_no_weights_and_no_data() -> None:
    for store in ("data", "checkpoints", "models"):
        assert not may("gateway", "s3:GetObject", key(store, "x"))


def test_only_training_nodes_set_a_size_and_only_their_own_groups() -> None:
    arn = GROUP.replace(":*:", ":5f8c:")

    assert may("training", "autoscaling:SetDesiredCapacity", arn)
    assert not may("training", "autoscaling:SetDesiredCapacity", arn.replace("training", "replica"))
    assert may("training", "autoscaling:TerminateInstanceInAutoScalingGroup", arn)
    assert not may("replica", "autoscaling:SetDesiredCapacity", arn)
    assert may("replica", "autoscaling:CompleteLifecycleAction", arn)


@pytest.mark.parametrize("role", ROLES)
def test_a_node_writes_to_its_own_stacks_logs_and_makes_no_group(role: Role) -> None:
    stream = LOGS.removesuffix("*") + "log-stream:training-i-0/b001"

    for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
        assert may(role, action, stream)
        assert not may(role, action, stream.replace("0123abcd", "0123abce"))
        assert not may(role, action, stream.replace("0123abcd:", "0123abcd7:"))
    for action in ("logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:GetLogEvents"):
        assert not may(role, action, stream)


def policies() -> Mapping[str, str]:
    """All that a stack writes."""
    nodes = {role: node_policy(role, BUCKETS, GROUP, LOGS) for role in ROLES}
    return nodes | {"timer": timer_policy(GROUP)}


@pytest.mark.parametrize("name", [*ROLES, "timer"])
def test_no_right_is_a_wildcard(name: str) -> None:
    for statement in json.loads(policies()[name])["Statement"]:
        assert statement["Effect"] == "Allow"
        assert not any("*" in action for action in statement["Action"]), statement
        assert "*" not in statement["Resource"], statement
        assert len({statement["Sid"]}) == 1


@pytest.mark.parametrize("name", [*ROLES, "timer"])
def test_no_two_statements_have_one_name(name: str) -> None:
    names = [statement["Sid"] for statement in json.loads(policies()[name])["Statement"]]

    assert len(names) == len(set(names))


def test_a_role_is_taken_by_its_service_alone() -> None:
    [statement] = json.loads(assume_policy("ec2.amazonaws.com"))["Statement"]

    assert statement["Principal"] == {"Service": "ec2.amazonaws.com"}


def test_every_role_has_its_rights_told() -> None:
    assert set(ACCESS) == set(ROLES)
