"""What a stack has left in AWS is found and removed, and nothing of anybody else's."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from infra.clouds.aws.sweep import clear, sweep
from infra.clouds.leftovers import Item
from infra.plan.machines import price_table
from tests.infra.clouds.aws.interceptor import Interceptor, hit, never
from tests.infra.clouds.aws.planted import (
    ACCOUNT,
    DISK_GIB,
    MACHINE,
    OURS,
    REGION,
    TEN_USD,
    Found,
    Stack,
    plant,
    plant_alarm,
    plant_balancer,
    plant_disks,
    plant_key,
    plant_network,
    plant_stores,
)

ANOTHERS = "0123456789ab"
PRICES = price_table("aws").regions[REGION]


@pytest.fixture
def strangers(stack: Stack) -> Stack:
    """One beside it."""
    return replace(stack, id=ANOTHERS, things=[])


def found(items: Iterable[Item]) -> Counter[Found]:
    """What things they are."""
    return Counter((item.kind, item.id) for item in items)


def left(stack: Stack) -> Counter[Found]:
    """What a sweep finds of a stack."""
    return found(sweep(stack.session, REGION, stack.id).left)


def cleared(stack: Stack, sleep: Callable[[float], None] = never) -> None:
    """A sweep, and the removal of what it found."""
    clear(stack.session, REGION, sweep(stack.session, REGION, stack.id), sleep)


@pytest.mark.slow
def test_each_thing_of_a_stack_is_found_once_with_its_price(stack: Stack, strangers: Stack) -> None:
    plant(stack)
    plant(strangers)

    report = sweep(stack.session, REGION, OURS)

    assert found(report.left) == Counter(stack.things)
    assert report.kept == ()
    assert all(OURS in item.where or REGION in item.where for item in report.left)
    assert Counter((i.kind, i.usd_per_hour) for i in report.left if i.usd_per_hour) == {
        ("instance", PRICES.machines[MACHINE].on_demand): 2,
        ("nat-gateway", PRICES.nat_hour): 1,
        ("address", PRICES.address_hour): 1,
        ("balancer", PRICES.balancer_hour): 1,
        ("vpc-endpoint", 2 * (PRICES.endpoint_zone_hour or 0.0)): 1,
        ("volume", DISK_GIB * (PRICES.disk_gib_month or 0.0) / 730): 1,
    }
    by_use = {"alarm", "bucket", "key", "log-group", "schedule", "secret", "snapshot"}
    assert {i.kind for i in report.left if i.usd_per_hour is None} == by_use


@pytest.mark.slow
def test_a_stack_is_cleared_to_nothing_and_a_strangers_stays_whole(
    stack: Stack, strangers: Stack
) -> None:
    plant(stack)
    plant(strangers)

    cleared(stack)

    assert {kind for kind, _ in left(stack)} == {"key"}  # until its date
    assert left(strangers) == Counter(strangers.things)
    assert sorted(strangers.content()) == ["beat", "object", "object", "object"]


def test_nothing_is_found_of_a_stack_that_has_nothing(stack: Stack) -> None:
    report = sweep(stack.session, REGION, stack.id)

    assert (report.left, report.kept) == ((), ())


def test_a_store_that_is_kept_is_told_as_kept_and_stays_as_it_is(stack: Stack) -> None:
    plant_stores(stack, **{"atoll:retain": "true"})
    kept, gone = ("bucket", stack.name("data")), ("bucket", stack.name("control"))

    report = sweep(stack.session, REGION, stack.id)
    clear(stack.session, REGION, report, never)

    assert (found(report.left), found(report.kept)) == (Counter([gone]), Counter([kept]))
    assert left(stack) == Counter()
    assert stack.content() == ["object"] * 3


def test_what_came_after_the_sweep_stays(stack: Stack) -> None:
    plant_disks(stack)
    report, before = sweep(stack.session, REGION, stack.id), Counter(stack.things)
    plant_disks(stack)

    clear(stack.session, REGION, report, never)

    assert left(stack) == Counter(stack.things) - before


def test_a_name_that_only_begins_alike_is_a_strangers(stack: Stack) -> None:
    name, ec2 = stack.name() + "7", stack.client("ec2")
    stack.client("s3").create_bucket(
        Bucket=f"{name}-data", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    stack.client("logs").create_log_group(logGroupName=f"/atoll/{OURS}7/training")
    stack.client("sns").create_topic(Name=f"{name}-alerts")
    stack.client("cloudwatch").put_metric_alarm(
        AlarmName=f"{name}-errors",
        Namespace="AWS/ApplicationELB",
        MetricName="HTTPCode_ELB_5XX_Count",
        Statistic="Sum",
        Period=300,
        EvaluationPeriods=1,
        Threshold=5,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
    )
    stack.client("scheduler").create_schedule_group(Name=name)
    stack.client("budgets").create_budget(
        AccountId=ACCOUNT,
        Budget={"BudgetName": name, "BudgetType": "COST", "TimeUnit": "MONTHLY", **TEN_USD},
    )
    stack.client("secretsmanager").create_secret(
        Name=name, SecretString="x", Tags=[{"Key": "atoll:stack-id", "Value": f"{OURS}7"}]
    )
    volume = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"]
    ec2.create_tags(Resources=[volume], Tags=[{"Key": "note", "Value": OURS}])

    assert left(stack) == Counter()


def test_a_bucket_with_our_name_and_anothers_tag_is_anothers(stack: Stack) -> None:
    plant_stores(stack, **{"atoll:stack-id": ANOTHERS})

    assert left(stack) == Counter([("bucket", stack.name("control"))])


def test_a_filter_that_is_not_heeded_makes_nobodys_things_ours(
    stack: Stack, strangers: Stack, interceptor: Interceptor
) -> None:
    plant_disks(strangers)
    volumes = strangers.client("ec2").describe_volumes()["Volumes"]
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue"
    interceptor.changes = {
        "ec2.DescribeVolumes": lambda said: said["Volumes"].extend(volumes),
        "resourcegroupstaggingapi.GetResources": lambda said: said["ResourceTagMappingList"].extend(
            hit(arn, tags=strangers.tags("queue"))
        ),
    }

    assert left(stack) == Counter()


def test_what_the_tagging_api_still_names_is_gone_when_its_own_service_says_so(
    stack: Stack, interceptor: Interceptor
) -> None:
    here = f"{REGION}:{ACCOUNT}"
    role, balancer = f"role/atoll/{OURS}/{stack.name('timer')}", f"app/{stack.name()}"
    names = [
        f"arn:aws:budgets::{ACCOUNT}:budget/{stack.name('budget')}",
        f"arn:aws:cloudwatch:{here}:alarm:{stack.name('errors')}",
        f"arn:aws:sns:{here}:{stack.name('alerts')}",
        f"arn:aws:acm:{here}:certificate/0f1e2d3c-0000-0000-0000-000000000000",
        f"arn:aws:kms:{here}:key/0f1e2d3c-0000-0000-0000-000000000000",
        f"arn:aws:ec2:{here}:instance/i-0f1e2d3c4b5a69788",
        f"arn:aws:ec2:{here}:natgateway/nat-0f1e2d3c4b5a69788",
        f"arn:aws:ec2:{here}:security-group-rule/sgr-0f1e2d3c4b5a69788",
        f"arn:aws:elasticloadbalancing:{here}:loadbalancer/{balancer}/0f1e2d3c4b5a6978",
        f"arn:aws:elasticloadbalancing:{here}:listener/{balancer}/0f1e2d3c4b5a6978/1f",
        f"arn:aws:logs:{here}:log-group:/atoll/{OURS}/training",
        f"arn:aws:secretsmanager:{here}:secret:{stack.name('key')}-abcdef",
        f"arn:aws:iam::{ACCOUNT}:{role}",
        f"arn:aws:s3:::{stack.name('data')}",
    ]
    interceptor.changes["resourcegroupstaggingapi.GetResources"] = lambda said: said[
        "ResourceTagMappingList"
    ].extend(hit(*names, tags=stack.tags("")))

    assert left(stack) == Counter()


def test_what_nobody_here_can_confirm_counts_as_left_and_says_so(
    stack: Stack, interceptor: Interceptor
) -> None:
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:lines"
    alarm = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:named-otherwise"
    role = f"arn:aws:iam::{ACCOUNT}:role/elsewhere"
    interceptor.changes["resourcegroupstaggingapi.GetResources"] = lambda said: said[
        "ResourceTagMappingList"
    ].extend(hit(queue, alarm, role, tags=stack.tags("")))

    report = sweep(stack.session, REGION, stack.id)
    clear(stack.session, REGION, report, never)

    assert found(report.left) == Counter(
        [("sqs", "lines"), ("cloudwatch:alarm", "named-otherwise"), ("iam:role", "elsewhere")]
    )
    assert all("not confirmed" in item.where for item in report.left)


def test_an_alarm_goes_before_what_it_watches_and_its_topic_after_it(
    stack: Stack, interceptor: Interceptor
) -> None:
    plant_network(stack)
    plant_balancer(stack)
    plant_alarm(stack)

    cleared(stack)

    asked = interceptor.asked
    order = ["cloudwatch.DeleteAlarms", "sns.DeleteTopic", "elbv2.DeleteLoadBalancer"]
    assert sorted(order, key=asked.index) == order
    assert {kind for kind, _ in left(stack)} == set()


def test_a_topic_that_is_ours_by_its_tag_is_found_under_any_name(stack: Stack) -> None:
    tags = [{"Key": "atoll:stack-id", "Value": OURS}]
    stack.client("sns").create_topic(Name="named-otherwise", Tags=tags)
    stack.client("sns").create_topic(Name="strangers")

    assert left(stack) == Counter([("topic", "named-otherwise")])
    cleared(stack)
    assert left(stack) == Counter()


def test_all_pages_are_read(stack: Stack, interceptor: Interceptor) -> None:
    keys = [plant_key(stack) for _ in range(3)]
    interceptor.ask_with("resource-groups-tagging-api.GetResources", ResourcesPerPage=1)

    assert left(stack) == Counter(("key", key) for key in keys)


def test_a_key_that_goes_at_a_date_is_left_until_then_and_nobody_waits(
    stack: Stack, interceptor: Interceptor
) -> None:
    key = plant_key(stack)

    cleared(stack)
    cleared(stack)

    [item] = sweep(stack.session, REGION, stack.id).left
    until = stack.client("kms").describe_key(KeyId=key)["KeyMetadata"]["DeletionDate"]
    assert f"AWS deletes it at {until:%Y-%m-%d}" in item.where
    assert interceptor.count("kms.ScheduleKeyDeletion") == 1


def test_versions_go_page_by_page(stack: Stack, interceptor: Interceptor) -> None:
    plant_stores(stack)
    interceptor.ask_with("s3.ListObjectVersions", MaxKeys=1)

    cleared(stack)

    assert left(stack) == Counter()
    assert interceptor.count("s3.DeleteObjects") == 4


def test_a_network_that_is_held_for_a_while_is_asked_for_again(
    stack: Stack, interceptor: Interceptor
) -> None:
    plant_network(stack)
    pauses: list[float] = []
    interceptor.refuse("ec2.DeleteVpc", "DependencyViolation", times=3)
    interceptor.refuse("ec2.ReleaseAddress", "AuthFailure", times=1)
    interceptor.refuse("ec2.DeleteNetworkInterface", "RequestLimitExceeded", times=2, status=503)

    cleared(stack, pauses.append)

    assert left(stack) == Counter()
    assert 0 < len(pauses) <= 3


def test_what_is_going_is_waited_for_and_not_asked_again(
    stack: Stack, interceptor: Interceptor
) -> None:
    plant_disks(stack)
    pauses: list[float] = []

    def is_deleted_slowly(said: dict[str, list[object]]) -> None:
        if "ec2.DeleteVolume" in interceptor.asked and len(pauses) < 3:
            tags = [{"Key": "atoll:stack-id", "Value": OURS}]
            said["Volumes"] = [{"VolumeId": volume, "State": "deleting", "Tags": tags}]

    [volume] = [one for kind, one in stack.things if kind == "volume"]
    interceptor.changes["ec2.DescribeVolumes"] = is_deleted_slowly

    cleared(stack, pauses.append)

    assert len(pauses) == 3
    assert interceptor.count("ec2.DeleteVolume") == 1
