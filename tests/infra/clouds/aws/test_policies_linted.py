"""Two linters of IAM policies on all that the kit renders; both bring their data and ask nobody.

What they find and what stays has its reason here.
"""

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import get_args

import parliament  # type: ignore[import-untyped]
import pytest
from cloudsplaining.scan.policy_document import PolicyDocument
from policy_sentry.querying.all import get_all_actions

from infra.clouds.aws.deployer import Deployer, boundary_policy, deployer_policies
from infra.clouds.aws.deployer_needs import all_needs
from infra.clouds.aws.rights import (
    assume_policy,
    group_arn,
    logs_arn,
    node_policy,
    timer_policy,
    tls_only_policy,
)
from infra.plan.names import Role, rented_name
from infra.plan.spec import StoreRole

ACCOUNT, REGION, STACK = "123456789012", "eu-central-1", "5e1f0a2b"
COMMUNITY = files("parliament") / "community_auditors" / "config_override.yaml"
GRAVE = ("MEDIUM", "HIGH", "CRITICAL")
WHOLE = "atoll-deployer"  # its parts together: what one alone can't, two may
# (policy, issue, action): why it stays
ACCEPTED: Mapping[tuple[str, str, str], str] = {
    ("assume", "MALFORMED", ""): "a trust policy has no Resource: its role is the resource",
    ("atoll-deployer-machines", "RESOURCE_MISMATCH", "ec2:RunInstances"): (
        "three statements together: what is made, what it is made in, which image"
    ),
    ("atoll-deployer-machines", "RESOURCE_MISMATCH", "ssm:GetParameter"): (
        "public parameters are of no account"
    ),
    **{
        ("atoll-deployer-endpoint", "RESOURCE_MISMATCH", f"elasticloadbalancing:{action}"): (
            "application balancers alone, none of networks and gateways"
        )
        for action in ("DeleteListener", "ModifyListener", "ModifyListenerAttributes")
    },
    ("atoll-deployer-endpoint", "PERMISSIONS_MANAGEMENT_ACTIONS", ""): (
        "a bucket's policy and its block are set by `up`, on names of the kit alone"
    ),
    ("atoll-deployer-account", "PERMISSIONS_MANAGEMENT_ACTIONS", ""): (
        "`up` makes roles, under the kit's path alone; a boundary bounds what they may"
    ),
    (WHOLE, "PRIVILEGE_ESCALATION", "CreateEC2WithExistingIP"): (
        "machines get the kit's roles and no others; a boundary bounds what these may"
    ),
}


def policies() -> dict[str, str]:
    """By name."""
    buckets = {role: rented_name(STACK, role) for role in get_args(StoreRole)}
    group = group_arn(REGION, ACCOUNT, rented_name(STACK, "training"))
    logs = logs_arn(REGION, ACCOUNT, STACK)
    parts = deployer_policies(Deployer(account=ACCOUNT, region=REGION))
    return {
        **{role: node_policy(role, buckets, group, logs) for role in get_args(Role)},
        "timer": timer_policy(group),
        "assume": assume_policy("ec2.amazonaws.com"),
        "tls-only": tls_only_policy(f"arn:aws:s3:::{buckets['data']}"),
        **parts,
        WHOLE: _joined(parts),
        "boundary": boundary_policy(ACCOUNT, REGION),
    }


def _joined(texts: Mapping[str, str]) -> str:
    statements = [one for text in texts.values() for one in json.loads(text)["Statement"]]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


POLICIES = policies()
GRANTING = sorted(set(POLICIES) - {"assume", "tls-only", "boundary"})


def findings(name: str) -> Iterator[tuple[str, str, str]]:
    """What parliament finds that is grave: policy, issue, each action or way if it names any."""
    parliament.override_config(str(COMMUNITY))
    checked = parliament.analyze_policy_string(POLICIES[name], include_community_auditors=True)
    for finding in map(parliament.enhance_finding, checked.findings):
        if finding.severity in GRAVE:
            way = {"action": finding.location.get("type", "")}
            named = finding.detail if isinstance(finding.detail, list) else [way]
            yield from ((name, finding.issue, one["action"]) for one in named)


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {WHOLE}))
def test_parliament_finds_nothing_grave_but_what_is_accepted(name: str) -> None:
    assert set(findings(name)) == {key for key in ACCEPTED if key[0] == name}


def test_the_deployers_parts_together_escalate_in_no_way_but_what_is_accepted() -> None:
    ways = {key for key in findings(WHOLE) if key[1] == "PRIVILEGE_ESCALATION"}

    assert ways == {key for key in ACCEPTED if key[0] == WHOLE}


@pytest.mark.parametrize("name", GRANTING)
def test_cloudsplaining_finds_no_right_that_grows_or_lets_data_out(name: str) -> None:
    document = PolicyDocument(json.loads(POLICIES[name]))

    # Lists, which name no resource; a budget's are by account.
    assert set(document.all_allowed_unrestricted_actions) <= {"budgets:ViewBudget"}
    assert document.allows_privilege_escalation == []
    assert document.allows_data_exfiltration_actions == []
    assert document.permissions_management_without_constraints == []
    assert document.write_actions_without_constraints == []
    assert document.tagging_actions_without_constraints == []
    assert document.credentials_exposure == []
    assert document.service_wildcard == []


def test_the_linters_would_find_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    statement = {"Effect": "Allow", "Action": ["iam:PassRole", "ec2:RunInstances"]}
    wide = {"Version": "2012-10-17", "Statement": [{**statement, "Resource": "*"}]}
    monkeypatch.setitem(POLICIES, "wide", json.dumps(wide))

    assert ("wide", "PRIVILEGE_ESCALATION", "CreateEC2WithExistingIP") in set(findings("wide"))
    assert PolicyDocument(wide).allows_privilege_escalation != []


def test_each_action_of_the_deployer_is_one_of_aws() -> None:
    known = set(get_all_actions())
    needed = {
        action for needs in all_needs() for action in (*needs.asks, *needs.makes, *needs.changes)
    }

    assert needed - known == set()


def test_each_action_of_the_other_policies_is_one_of_aws() -> None:
    known = set(get_all_actions())
    for name in set(POLICIES) - {"tls-only"}:
        for statement in json.loads(POLICIES[name])["Statement"]:
            actions = statement["Action"]
            named = {actions} if isinstance(actions, str) else set(actions)
            assert named - known == set(), name
