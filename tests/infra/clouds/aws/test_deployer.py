"""Who deploys may do what the kit needs, and nothing to what is not the kit's."""

import ast
import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import get_args

import pytest
from botocore import xform_name  # type: ignore[import-untyped]
from botocore.session import get_session  # type: ignore[import-untyped]

from infra.clouds.aws.deployer import (
    CHARACTERS_MAX,
    PARTS,
    Deployer,
    boundary_policy,
    deployer_policies,
    main,
)
from infra.clouds.aws.deployer_needs import TYPES, all_needs
from infra.clouds.aws.rights import (
    SESSION_POLICY,
    group_arn,
    logs_arn,
    node_policy,
    timer_policy,
)
from infra.plan.names import Role, rented_name
from infra.plan.spec import StoreRole
from tests.infra.clouds.aws.declared import ROOM, declared_types, looked_up

# Importing a whole module of the SDK warns of each of its old classes.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ACCOUNT, REGION = "123456789012", "eu-central-1"
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/atoll-boundary"
EC2, HERE = f"arn:aws:ec2:{REGION}:{ACCOUNT}", {"aws:RequestedRegion": REGION}
OURS = {**HERE, "aws:ResourceTag/atoll:project": "atoll"}
MADE = {**HERE, "aws:RequestTag/atoll:project": "atoll"}
ROLE = f"arn:aws:iam::{ACCOUNT}:role/atoll/5e1f0a2b/atoll-5e1f0a2b-training"
# As boto3 calls services and operations, where IAM has other names.
PREFIXES = {
    "elbv2": "elasticloadbalancing",
    "resourcegroupstaggingapi": "tag",
    "service-quotas": "servicequotas",
}
ACTIONS = {
    "s3:ListBuckets": "s3:ListAllMyBuckets",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:DeleteObjects": "s3:DeleteObjectVersion",
    "budgets:DescribeBudgets": "budgets:ViewBudget",
    "budgets:DeleteBudget": "budgets:ModifyBudget",
}
Context = Mapping[str, str]


def statements(boundary: str | None = None) -> list[dict[str, object]]:
    """Of all parts together."""
    texts = deployer_policies(Deployer(account=ACCOUNT, region=REGION, boundary=boundary))
    return [one for text in texts.values() for one in json.loads(text)["Statement"]]


def may(action: str, resource: str, context: Context, boundary: str | None = None) -> bool:
    """What IAM would say: a statement that names both, and all of whose conditions hold."""
    return any(
        action in list(_each(one["Action"]))
        and any(fnmatchcase(resource, pattern) for pattern in _each(one["Resource"]))
        and all(_holds(*test, context) for test in _tests(one.get("Condition", {})))
        for one in statements(boundary)
    )


def _each(value: object) -> Iterator[str]:
    yield from [value] if isinstance(value, str) else value  # type: ignore[misc]


def _tests(condition: object) -> Iterator[tuple[str, str, list[str]]]:
    assert isinstance(condition, dict)
    for operator, keys in condition.items():
        for key, values in keys.items():
            yield operator, key, list(_each(values))


def _holds(operator: str, key: str, values: list[str], context: Context) -> bool:
    found = context.get(key)
    match operator:
        case "StringEquals" | "ArnEquals":
            return found in values
        case "ForAllValues:StringEquals":
            return found is None or found in values
        case "Null":
            return str(found is None).lower() in values
    raise AssertionError(operator)


def test_each_type_and_look_up_of_the_kit_is_in_the_table_and_no_other() -> None:
    assert set(TYPES) == declared_types() | looked_up()


def test_what_the_types_need_is_what_the_policies_give() -> None:
    needed = {
        action for needs in all_needs() for action in (*needs.asks, *needs.makes, *needs.changes)
    }
    given = {action for one in statements() for action in _each(one["Action"])}

    assert given == needed


def called() -> Iterator[set[str]]:
    """What the kit itself asks AWS, as services and operations stand in it as texts: an action, or
    one of those of several services that have an operation of that name.
    """
    trees = [ast.parse(path.read_text()) for path in ROOM.rglob("*.py")]
    nodes = (node for tree in trees for node in ast.walk(tree))
    values = (node.value for node in nodes if isinstance(node, ast.Constant))
    texts = {value for value in values if isinstance(value, str)}
    known: dict[str, set[str]] = {}
    session = get_session()
    for service in texts & set(session.get_available_services()):
        prefix = PREFIXES.get(service, service)
        for operation in session.get_service_model(service).operation_names:
            action = f"{prefix}:{operation}"
            known.setdefault(xform_name(operation), set()).add(ACTIONS.get(action, action))
    yield from (known[text] for text in texts & known.keys())


def test_the_sweep_and_all_else_that_the_kit_asks_is_allowed() -> None:
    given = {action for one in statements() for action in _each(one["Action"])}
    asked = list(called())

    for action in ("ec2:DescribeVolumes", "budgets:ViewBudget", "scheduler:DeleteSchedule"):
        assert {action} in asked
    assert [actions for actions in asked if not actions & given] == []


def test_each_part_fits_into_a_managed_policy_and_no_service_is_left_out() -> None:
    texts = deployer_policies(Deployer(account=ACCOUNT, region=REGION))
    named = [service for services in PARTS.values() for service in services]
    services = {action.partition(":")[0] for one in statements() for action in _each(one["Action"])}

    assert set(named) == services
    assert len(named) == len(set(named))
    assert max(map(len, texts.values())) <= CHARACTERS_MAX
    sids = [one["Sid"] for one in statements()]
    assert len(sids) == len(set(sids))


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("ec2:DescribeVpcs", "*", HERE),
        ("ec2:CreateVpc", f"{EC2}:vpc/vpc-1", MADE),
        ("ec2:CreateSubnet", f"{EC2}:subnet/*", MADE),
        ("ec2:CreateSubnet", f"{EC2}:vpc/vpc-1", OURS),
        ("ec2:CreateTags", f"{EC2}:subnet/subnet-1", {"ec2:CreateAction": "CreateSubnet"}),
        ("ec2:CreateTags", f"{EC2}:security-group/sg-1", MADE),  # a default group
        ("ec2:DeleteSnapshot", f"arn:aws:ec2:{REGION}::snapshot/snap-1", OURS),
        ("ec2:RunInstances", f"arn:aws:ec2:{REGION}::image/ami-1", HERE),
        ("ec2:RunInstances", f"{EC2}:launch-template/lt-1", OURS),
        ("ec2:RunInstances", f"{EC2}:instance/*", MADE),
        (
            "autoscaling:SetDesiredCapacity",
            f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:5f:autoScalingGroupName/"
            "atoll-5e1f0a2b-training",
            HERE,
        ),
        ("s3:PutObject", "arn:aws:s3:::atoll-5e1f0a2b-bundle/0a", HERE),
        ("s3:ListAllMyBuckets", "*", {}),
        ("iam:GetRole", ROLE, {}),
        ("iam:PassRole", ROLE, {"iam:PassedToService": "ec2.amazonaws.com"}),
        ("iam:PassRole", ROLE, {"iam:PassedToService": "scheduler.amazonaws.com"}),
        ("iam:AttachRolePolicy", ROLE, {"iam:PolicyARN": SESSION_POLICY}),
        ("iam:ListRoles", "*", {"aws:RequestedRegion": "us-east-1"}),
        ("budgets:ViewBudget", "*", {"aws:RequestedRegion": "us-east-1"}),
        ("ssm:GetParameter", f"arn:aws:ssm:{REGION}::parameter/aws/service/canonical/x", HERE),
        (
            "route53:ChangeResourceRecordSets",
            "arn:aws:route53:::hostedzone/Z1",
            {"route53:ChangeResourceRecordSetsRecordTypes": "CNAME"},
        ),
        (
            "elasticloadbalancing:CreateListener",
            f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:loadbalancer/app/atoll-5e1f0a2b/0a",
            HERE,
        ),
        (
            "cloudwatch:PutMetricAlarm",
            f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:atoll-5e1f0a2b-errors",
            HERE,
        ),
        ("sns:Subscribe", f"arn:aws:sns:{REGION}:{ACCOUNT}:atoll-5e1f0a2b-alerts", HERE),
        ("acm:RequestCertificate", "*", MADE),
        ("acm:DeleteCertificate", f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/1", OURS),
    ],
)
def test_what_a_stack_takes_is_allowed(action: str, resource: str, context: Context) -> None:
    assert may(action, resource, context)


ELSEWHERE = {"aws:RequestedRegion": "us-east-1"}
THEIRS = {**HERE, "aws:ResourceTag/atoll:project": "another"}


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("ec2:DescribeVpcs", "*", ELSEWHERE),
        ("ec2:CreateVpc", f"{EC2}:vpc/vpc-1", HERE),
        ("ec2:CreateVpc", f"{EC2}:vpc/vpc-1", MADE | ELSEWHERE),
        ("ec2:CreateSubnet", f"{EC2}:vpc/vpc-1", HERE),
        ("ec2:TerminateInstances", f"{EC2}:instance/i-1", HERE),
        ("ec2:TerminateInstances", f"{EC2}:instance/i-1", THEIRS),
        ("ec2:CreateTags", f"{EC2}:instance/i-1", MADE),  # and then end it as one's own
        ("ec2:CreateTags", f"{EC2}:security-group/sg-1", MADE | THEIRS),
        ("ec2:RunInstances", f"{EC2}:instance/*", HERE),
        ("ec2:RunInstances", f"{EC2}:subnet/subnet-1", THEIRS),
        (
            "autoscaling:UpdateAutoScalingGroup",
            f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:5f:autoScalingGroupName/web",
            HERE,
        ),
        ("s3:DeleteObject", "arn:aws:s3:::payroll/2026", HERE),
        ("iam:PassRole", ROLE, {"iam:PassedToService": "lambda.amazonaws.com"}),
        (
            *("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin"),
            {"iam:PassedToService": "ec2.amazonaws.com"},
        ),
        ("iam:PutRolePolicy", f"arn:aws:iam::{ACCOUNT}:role/admin", {}),
        ("iam:AttachRolePolicy", ROLE, {"iam:PolicyARN": "arn:aws:iam::aws:policy/PowerUser"}),
        ("iam:CreateUser", f"arn:aws:iam::{ACCOUNT}:user/atoll/x", {}),
        (
            *("iam:CreateServiceLinkedRole", f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/x"),
            {"iam:AWSServiceName": "organizations.amazonaws.com"},
        ),
        (
            "route53:ChangeResourceRecordSets",
            "arn:aws:route53:::hostedzone/Z1",
            {"route53:ChangeResourceRecordSetsRecordTypes": "NS"},
        ),
        ("ssm:GetParameter", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/secret", HERE),
        (
            "secretsmanager:DeleteSecret",
            f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:x",
            HERE,
        ),
        ("kms:ScheduleKeyDeletion", f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1", HERE),
        ("logs:DeleteLogGroup", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/web/x", HERE),
        ("cloudwatch:DeleteAlarms", f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:web", HERE),
        ("sns:DeleteTopic", f"arn:aws:sns:{REGION}:{ACCOUNT}:web", HERE),
    ],
)
def test_what_is_another_place_s_or_somebody_else_s_is_not(
    action: str, resource: str, context: Context
) -> None:
    assert not may(action, resource, context)


@pytest.mark.parametrize("action", ["iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy"])
def test_with_a_boundary_no_role_is_written_that_lacks_it(action: str) -> None:
    plain = {"iam:PolicyARN": SESSION_POLICY}
    bound = {**plain, "iam:PermissionsBoundary": BOUNDARY}

    assert may(action, ROLE, plain)
    assert not may(action, ROLE, plain, boundary=BOUNDARY)
    assert may(action, ROLE, bound, boundary=BOUNDARY)
    given = {action for one in statements(BOUNDARY) for action in _each(one["Action"])}
    assert not {"iam:DeleteRolePermissionsBoundary", "iam:PutRolePermissionsBoundary"} & given
    assert not any("PolicyVersion" in action for action in given)


def test_the_boundary_lets_every_role_of_a_stack_do_its_own() -> None:
    at_most = json.loads(boundary_policy(ACCOUNT, REGION))["Statement"]
    buckets = {role: rented_name("5e1f0a2b", role) for role in get_args(StoreRole)}
    group = group_arn(REGION, ACCOUNT, "atoll-5e1f0a2b-training")
    logs = logs_arn(REGION, ACCOUNT, "5e1f0a2b")
    texts = [node_policy(role, buckets, group, logs) for role in get_args(Role)]

    for text in (*texts, timer_policy(group)):
        for one in json.loads(text)["Statement"]:
            for action in _each(one["Action"]):
                for resource in _each(one["Resource"]):
                    assert any(
                        action in bound["Action"]
                        and any(fnmatchcase(resource, pattern) for pattern in bound["Resource"])
                        for bound in at_most
                    ), (action, resource)


def test_the_policies_are_printed_for_who_attaches_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main([ACCOUNT, REGION, BOUNDARY])

    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == [*(f"atoll-deployer-{part}" for part in PARTS), "atoll-boundary"]
    assert BOUNDARY in json.dumps(printed)
