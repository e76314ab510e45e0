"""What goes wrong at AWS while a stack is looked for or cleared, and who has to act."""

import boto3  # type: ignore[import-untyped]
import pytest

from infra.clouds.aws.sweep import clear, sweep
from infra.clouds.aws.sweeping.api import Row
from infra.clouds.aws.sweeping.clearing import PAUSE_S, PAUSES_MAX
from infra.clouds.aws.sweeping.pricing import usd_per_hour
from infra.plan.machines import price_table
from runtime.errors import Refused, Unavailable
from tests.infra.clouds.aws.interceptor import Interceptor, never
from tests.infra.clouds.aws.planted import (
    OURS,
    REGION,
    Stack,
    plant_disks,
    plant_network,
    plant_stores,
)


@pytest.mark.slow
def test_a_missing_right_is_refused_by_the_name_that_policies_give_it(
    stack: Stack, interceptor: Interceptor
) -> None:
    sweep(stack.session, REGION, OURS)
    named = {
        "budgets.DescribeBudgets": "budgets:ViewBudget",
        "elbv2.DescribeLoadBalancers": "elasticloadbalancing:DescribeLoadBalancers",
        "elbv2.DescribeTargetGroups": "elasticloadbalancing:DescribeTargetGroups",
        "resourcegroupstaggingapi.GetResources": "tag:GetResources",
        "s3.ListBuckets": "s3:ListAllMyBuckets",
    }
    calls = sorted(set(interceptor.asked))
    assert named.keys() <= set(calls)

    for call in calls:
        code = "UnauthorizedOperation" if call.startswith("ec2") else "AccessDeniedException"
        was = interceptor.answers.get(call)
        interceptor.refuse(call, code, status=403)

        with pytest.raises(Refused, match=f"allow {named.get(call, call.replace('.', ':'))} "):
            sweep(stack.session, REGION, OURS)

        interceptor.answers[call] = was or (lambda _: None)


@pytest.mark.parametrize(
    ("code", "status"),
    [("RequestLimitExceeded", 503), ("ThrottlingException", 400), ("InternalError", 500)],
)
def test_a_service_that_is_busy_is_unavailable(
    stack: Stack, interceptor: Interceptor, code: str, status: int
) -> None:
    interceptor.refuse("ec2.DescribeVpcs", code, status=status)

    with pytest.raises(Unavailable, match=f"ec2:DescribeVpcs in {REGION}: {code}"):
        sweep(stack.session, REGION, OURS)


@pytest.mark.parametrize(
    "code", ["ExpiredToken", "InvalidClientTokenId", "AuthFailure", "UnrecognizedClientException"]
)
def test_credentials_that_aws_does_not_take_are_refused(
    stack: Stack, interceptor: Interceptor, code: str
) -> None:
    interceptor.refuse("resourcegroupstaggingapi.GetResources", code, status=403)

    with pytest.raises(Refused, match="log in again"):
        sweep(stack.session, REGION, OURS)


@pytest.mark.usefixtures("aws")
def test_without_credentials_it_is_said_how_to_give_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(Refused, match="AWS_PROFILE"):
        sweep(boto3.Session(), REGION, OURS)


@pytest.mark.usefixtures("aws")
def test_a_region_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(Refused, match="region"):
        sweep(boto3.Session(), "eu central", OURS)


@pytest.mark.usefixtures("aws")
def test_aws_that_cannot_be_reached_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr("infra.clouds.aws.sweeping.api.ATTEMPTS", 1)

    with pytest.raises(Unavailable, match="Could not connect"):
        sweep(boto3.Session(), REGION, OURS)


def test_a_missing_right_to_delete_leaves_nothing_else(
    stack: Stack, interceptor: Interceptor
) -> None:
    plant_disks(stack)
    report = sweep(stack.session, REGION, OURS)
    interceptor.refuse("ec2.DeleteVolume", "UnauthorizedOperation", status=403)

    with pytest.raises(Refused, match=r"volume vol-\w+: .*allow ec2:DeleteVolume"):
        clear(stack.session, REGION, report, never)

    assert [item.kind for item in sweep(stack.session, REGION, OURS).left] == ["volume"]


def test_what_never_lets_go_is_told_after_a_bounded_wait(
    stack: Stack, interceptor: Interceptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.clouds.aws.sweeping.clearing.PAUSES_MAX", 2)
    plant_network(stack)
    pauses: list[float] = []
    report = sweep(stack.session, REGION, OURS)
    interceptor.refuse("ec2.DeleteVpc", "DependencyViolation")

    with pytest.raises(Unavailable, match=r"1 still there(.|\n)*vpc vpc-\w+: .*DependencyViol"):
        clear(stack.session, REGION, report, pauses.append)

    assert pauses == [PAUSE_S] * 2


def test_the_wait_is_longer_than_a_balancer_holds_its_interfaces() -> None:
    assert PAUSE_S * PAUSES_MAX >= 600


def test_a_look_that_fails_between_two_rounds_is_repeated(
    stack: Stack, interceptor: Interceptor
) -> None:
    plant_disks(stack)
    pauses: list[float] = []
    report = sweep(stack.session, REGION, OURS)
    interceptor.refuse("ec2.DescribeVpcs", "RequestLimitExceeded", times=1, status=503)

    clear(stack.session, REGION, report, pauses.append)

    assert pauses == [PAUSE_S]
    assert sweep(stack.session, REGION, OURS).left == ()


@pytest.mark.parametrize(
    ("code", "error"), [("AccessDenied", Refused), ("InternalError", Unavailable)]
)
def test_an_object_that_cannot_be_deleted_is_named(
    stack: Stack,
    interceptor: Interceptor,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    error: type[Exception],
) -> None:
    monkeypatch.setattr("infra.clouds.aws.sweeping.clearing.PAUSES_MAX", 0)
    plant_stores(stack)
    report = sweep(stack.session, REGION, OURS)
    interceptor.answers["s3.DeleteObjects"] = lambda _: {
        "Errors": [{"Key": "object", "VersionId": "1", "Code": code, "Message": "held"}]
    }

    with pytest.raises(error, match=f"s3:DeleteObjectVersion of object in .*: {code}"):
        clear(stack.session, REGION, report, never)


PRICES = price_table("aws").regions[REGION]
KNOWN = PRICES.machines["t3.medium"]


@pytest.mark.parametrize(
    ("kind", "row", "usd"),
    [
        ("instance", {"type": "t3.medium", "state": "running"}, KNOWN.on_demand),
        ("instance", {"type": "t3.medium/spot", "state": "running"}, max(KNOWN.spot or ())),
        ("instance", {"type": "t3.medium", "state": "stopped"}, 0.0),
        ("instance", {"type": "x9.huge", "state": "running"}, None),
        ("volume", {"type": "gp2", "count": 8}, None),
        ("vpc-endpoint", {"type": "Gateway", "count": 0}, 0.0),
        ("network-interface", {"type": "private"}, 0.0),
        ("network-interface", {"type": "public"}, PRICES.address_hour),
        ("balancer", {"type": "network"}, None),
        ("role", {}, 0.0),
        ("sns", {}, None),
    ],
)
def test_what_a_thing_costs_is_its_list_price(
    kind: str, row: dict[str, object], usd: float | None
) -> None:
    assert usd_per_hour(kind, Row.model_validate({"id": "one", **row}), REGION) == usd


def test_in_a_region_without_prices_only_what_is_free_has_one() -> None:
    instance = Row(id="one", type="t3.medium", state="running")

    assert usd_per_hour("instance", instance, "nowhere-1") is None
    assert usd_per_hour("vpc", instance, "nowhere-1") == 0.0
