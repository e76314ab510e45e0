"""Least rights of who deploys: policies for an account's administrator to attach to a role or user.

    python -m infra.clouds.aws.deployer ACCOUNT REGION [BOUNDARY]

prints them with their names, and the boundary's with them. Pure but for that.

What bounds them: one region; names and paths that begin with `atoll`; tags of the kit on what is
made and on what is changed. What a role of a stack may do is written by its deployer: only with
BOUNDARY, the ARN of a policy that each such role then must carry, can't one write a role that may
do more than its maker. Four things are wider than a stack: records A and CNAME in all zones of the
account, tags of the kit on a certificate or on a security group that has none of them (a network's
default group gets them so), the end of anybody's subscription to a topic (AWS knows no limit of
that right), and all that another stack of the same project has.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from infra.clouds.aws.deployer_needs import all_needs
from infra.clouds.aws.rights import SESSION_POLICY
from infra.clouds.aws.tags import TAG_PROJECT

CHARACTERS_MAX = 6144  # of a managed policy, without blanks (IAM quotas, 2026-11)
PASSED_TO = ("ec2.amazonaws.com", "scheduler.amazonaws.com")
FIRST_ROLES = ("autoscaling", "elasticloadbalancing", "spot")
RECORD_TYPES = ("A", "CNAME")
WRITES = ("iam:CreateRole", "iam:PutRolePolicy")  # which may give a role more than its maker has
# Their lists are of no region: requests are signed for one of AWS's choice.
GLOBAL = ("iam", "route53", "budgets", "s3", "sts")
# Rights on these are by tag; on those of other services by name or path.
BY_TAG = ("ec2", "acm", "kms", "secretsmanager")
# What nodes and timers do: see rights.py.
NODES_IN_STORES = (
    *("s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"),
    "s3:DeleteObject",
)
NODES_IN_GROUPS = (
    *("autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"),
    "autoscaling:CompleteLifecycleAction",
)
NODES_IN_LOGS = ("logs:CreateLogStream", "logs:PutLogEvents")
# Of SESSION_POLICY those that a session of Session Manager needs (its user guide, 2026-11).
SESSION_ACTIONS = (
    "ssm:UpdateInstanceInformation",
    *(
        f"ssmmessages:{verb}{kind}Channel"
        for verb in ("Create", "Open")
        for kind in ("Control", "Data")
    ),
)
# Each fits into one managed policy.
PARTS: Mapping[str, Sequence[str]] = {
    "machines": ("ec2", "autoscaling", "scheduler", "ssm"),
    "endpoint": ("elasticloadbalancing", "acm", "route53", "s3", "cloudwatch", "sns"),
    "account": (
        *("iam", "sts", "tag", "budgets", "kms", "logs", "secretsmanager", "servicequotas"),
    ),
}

Statement = Mapping[str, object]
Conditions = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployer:
    """Who deploys, and where."""

    account: str
    region: str
    project: str = "atoll"  # as Pulumi.yaml names it
    boundary: str | None = None  # ARN of the policy that each role of a stack must carry


def deployer_policies(deployer: Deployer) -> dict[str, str]:
    """Policy texts by their names; all of them together are what a deployer needs."""
    return {
        f"atoll-deployer-{part}": _text(
            [statement for service in services for statement in _of_service(service, deployer)]
        )
        for part, services in PARTS.items()
    }


def boundary_policy(account: str, region: str) -> str:
    """The most that a role of any stack may do, whatever its own policy says."""
    at = Deployer(account=account, region=region)
    return _text(
        [
            _allow("Stores", NODES_IN_STORES, _arns("s3", at)),
            _allow("Groups", NODES_IN_GROUPS, _arns("autoscaling", at)),
            _allow("Logs", NODES_IN_LOGS, _arns("logs", at)),
            _allow("Session", SESSION_ACTIONS, ["*"]),
        ]
    )


def _of_service(service: str, deployer: Deployer) -> Iterator[Statement]:
    """Lists by region; the rest by tag where AWS has no names, else by name or path."""
    asks, makes, changes = (_actions(service, kind) for kind in ("asks", "makes", "changes"))
    where = {} if service in GLOBAL else {"StringEquals": {"aws:RequestedRegion": deployer.region}}
    ours = _also(where, {f"aws:ResourceTag/{TAG_PROJECT}": deployer.project})
    made = _also(where, {f"aws:RequestTag/{TAG_PROJECT}": deployer.project})
    if asks:
        yield _allow(f"{service}Ask", asks, ["*"], where)
    match service:
        case "iam":
            yield from _iam(changes, deployer)
        case "route53":
            yield from _records(changes)
        case "ec2":
            # What something is made in or from is a thing of the same call, with its own tags.
            yield _allow("ec2Change", [*makes, *changes], _arns("ec2", deployer), ours)
            yield _allow("ec2Make", makes, _arns("ec2", deployer), made)
            yield from _ec2(deployer, makes)
        case "acm":
            yield _allow("acmChange", changes, _arns("acm", deployer), ours)
            yield _allow("acmMake", makes, ["*"], made)
            yield _allow("acmTag", ["acm:AddTagsToCertificate"], _arns("acm", deployer), made)
        case _ if changes:
            is_by_tag = service in BY_TAG
            things = _arns(service, deployer)
            yield _allow(f"{service}Change", changes, things, ours if is_by_tag else None)


def _ec2(deployer: Deployer, makes: Sequence[str]) -> Iterator[Statement]:
    """Tags as a thing is made, and on a default group; an image and a reservation have others'."""
    arn = f"arn:aws:ec2:{deployer.region}:{deployer.account}"
    made = [action.partition(":")[2] for action in makes]
    yield _allow(
        "ec2Tag", ["ec2:CreateTags"], [f"{arn}:*"], {"StringEquals": {"ec2:CreateAction": made}}
    )
    untagged = {"Null": {f"aws:ResourceTag/{TAG_PROJECT}": "true"}}
    asked = _also(untagged, {f"aws:RequestTag/{TAG_PROJECT}": deployer.project})
    yield _allow("ec2Adopt", ["ec2:CreateTags"], [f"{arn}:security-group/*"], asked)
    images = f"arn:aws:ec2:{deployer.region}::image/*"
    yield _allow("ec2From", ["ec2:RunInstances"], [images, f"{arn}:capacity-reservation/*"])


def _iam(changes: Sequence[str], deployer: Deployer) -> Iterator[Statement]:
    ours = _arns("iam", deployer)
    roles = ours[:1]
    bound = {"iam:PermissionsBoundary": deployer.boundary} if deployer.boundary else {}
    special = {"iam:CreateServiceLinkedRole", "iam:PassRole", "iam:AttachRolePolicy", *WRITES}
    yield _allow("iamChange", set(changes) - special, ours)
    yield _allow("iamWrite", WRITES, roles, _also({}, bound))
    attached = {"ArnEquals": {"iam:PolicyARN": SESSION_POLICY}}
    yield _allow("iamAttach", ["iam:AttachRolePolicy"], roles, _also(attached, bound))
    passed = {"StringEquals": {"iam:PassedToService": PASSED_TO}}
    yield _allow("iamPass", ["iam:PassRole"], roles, passed)
    first = [f"{service}.amazonaws.com" for service in FIRST_ROLES]
    yield _allow(
        "iamFirst",
        ["iam:CreateServiceLinkedRole"],
        [f"arn:aws:iam::{deployer.account}:role/aws-service-role/*"],
        {"StringEquals": {"iam:AWSServiceName": first}},
    )


def _records(changes: Sequence[str]) -> Iterator[Statement]:
    """Which zone, only the stack file knows."""
    write = "route53:ChangeResourceRecordSets"
    zones = ["arn:aws:route53:::hostedzone/*", "arn:aws:route53:::change/*"]
    yield _allow("route53Read", set(changes) - {write}, zones)
    kinds = {"route53:ChangeResourceRecordSetsRecordTypes": RECORD_TYPES}
    yield _allow("route53Write", [write], zones[:1], {"ForAllValues:StringEquals": kinds})


def _arns(service: str, at: Deployer) -> list[str]:
    """What begins with the kit's name or stands under its path; of BY_TAG all of the region."""
    here, anywhere = (
        f"arn:aws:{service}:{at.region}:{at.account}",
        f"arn:aws:{service}::{at.account}",
    )
    return {
        "ec2": [f"{here}:*", f"arn:aws:ec2:{at.region}::snapshot/*"],
        "acm": [f"{here}:certificate/*"],
        "kms": [f"{here}:key/*"],
        "secretsmanager": [f"{here}:secret:*"],
        "s3": ["arn:aws:s3:::atoll-*", "arn:aws:s3:::atoll-*/*"],
        "iam": [f"{anywhere}:role/atoll/*", f"{anywhere}:instance-profile/atoll/*"],
        "autoscaling": [f"{here}:autoScalingGroup:*:autoScalingGroupName/atoll-*"],
        "elasticloadbalancing": [
            f"{here}:{kind}/atoll-*" for kind in ("loadbalancer/app", "targetgroup", "listener/app")
        ],
        "scheduler": [f"{here}:schedule-group/atoll-*", f"{here}:schedule/atoll-*"],
        "logs": [f"{here}:log-group:/atoll/*"],
        "cloudwatch": [f"{here}:alarm:atoll-*"],
        "sns": [f"{here}:atoll-*"],
        "budgets": [f"{anywhere}:budget/atoll-*"],
        "ssm": [f"arn:aws:ssm:{at.region}::parameter/aws/service/*"],
    }[service]


def _actions(service: str, kind: str) -> list[str]:
    found = {action for needs in all_needs() for action in getattr(needs, kind)}
    return sorted(action for action in found if action.startswith(f"{service}:"))


def _also(conditions: Conditions, equal: Mapping[str, object]) -> Conditions:
    """More that must hold, too."""
    if not equal:
        return conditions
    return {**conditions, "StringEquals": {**conditions.get("StringEquals", {}), **equal}}


def _allow(
    sid: str, actions: Iterable[str], resources: Sequence[str], conditions: Conditions | None = None
) -> Statement:
    told: dict[str, object] = {"Sid": sid, "Effect": "Allow", "Action": sorted(actions)}
    told["Resource"] = resources
    return {**told, "Condition": conditions} if conditions else told


def _text(statements: Sequence[Statement]) -> str:
    text = json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))
    assert len(text) <= CHARACTERS_MAX, f"a policy of {len(text)} characters"
    return text


def main(arguments: Sequence[str]) -> None:
    """Print them all, by name."""
    account, region, *rest = arguments
    policies = deployer_policies(
        Deployer(account=account, region=region, boundary=rest[0] if rest else None)
    )
    policies["atoll-boundary"] = boundary_policy(account, region)
    print(json.dumps({name: json.loads(text) for name, text in policies.items()}, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
