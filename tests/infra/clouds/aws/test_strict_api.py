"""AWS's own API before the strict double: who asks it sees what the engine has made."""

import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import boto3  # type: ignore[import-untyped]
import pytest

from infra.clouds.aws.orphans import KINDS, PARTS, clear_orphans
from infra.clouds.aws.session import has_bucket, open_bucket
from infra.clouds.aws.sweep import clear, sweep
from infra.clouds.aws.sweeping.api import Api
from infra.clouds.aws.tags import TAG_RETAIN
from infra.clouds.leftovers import Item
from infra.engine.broken_off import Begun, BrokenOff
from infra.provider.wire import SIGNATURE, Value
from runtime.coordination.log import PoolLog, store_now
from runtime.errors import Conflict, Corrupt, Missing, Refused, Unavailable
from runtime.objects import Store
from tests.conftest import ROOT
from tests.doubles.strict_api import asked, served_api
from tests.doubles.strict_cloud import StrictCloud
from tests.doubles.strict_schema import LOOKS
from tests.infra.clouds.aws.conftest import new_session, point_at
from tests.infra.clouds.aws.deployed import (
    Stack,
    deploy,
    make_network,
    make_others,
    make_pool,
    make_stores,
)
from tests.infra.clouds.aws.interceptor import never
from tests.infra.clouds.aws.planted import OURS, REGION, Found
from tests.infra.clouds.provider_under_test import served

ANOTHERS = "0123456789ab"
CREATED = re.compile(r"\baws\.(\w+)\.([A-Z]\w+)\(")
NOW = datetime(2026, 11, 25, tzinfo=UTC)
GROUP, OBJECT = "aws:autoscaling/group:Group", "s3/bucketObjectv2:BucketObjectv2"
ASSET = "c44067f5952c0a294b673a41bacd8c17"  # by which the engine marks one
# Importing a whole module of the SDK warns of each of its old classes.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def session(strict_cloud: StrictCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    """All who ask AWS ask the double, as the environment says."""
    with served_api(strict_cloud) as url:
        point_at(url, monkeypatch)
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        yield new_session()


@pytest.fixture
def api(session: boto3.Session) -> Api:
    """The sweep's own client."""
    return Api(session, REGION)


@pytest.fixture
def stack(strict_cloud: StrictCloud) -> Iterator[Stack]:
    """A stack of which nothing is there yet."""
    with served("aws", strict_cloud) as provider:
        yield Stack(provider, strict_cloud, OURS)


@pytest.fixture
def strangers(stack: Stack) -> Stack:
    """Another beside it."""
    return Stack(stack.provider, stack.cloud, ANOTHERS)


@pytest.fixture
def control(session: boto3.Session, stack: Stack) -> Store:
    """The control store of a stack."""
    del session  # only its environment counts
    make_stores(stack)
    return open_bucket(f"s3://{stack.name('control')}", REGION)


def found(items: tuple[Item, ...]) -> Counter[Found]:
    return Counter((item.kind, item.id) for item in items)


def left(session: boto3.Session, stack: Stack) -> Counter[Found]:
    """What a sweep finds of a stack."""
    return found(sweep(session, REGION, stack.id).left)


def cleared(session: boto3.Session, stack: Stack) -> None:
    """A sweep, and the removal of what it found: nothing has to be waited for."""
    clear(session, REGION, sweep(session, REGION, stack.id), never)


def test_every_type_that_our_rooms_make_is_made_here(stack: Stack) -> None:
    deploy(stack)

    ours = {
        f"aws:{module}/{name[0].lower()}{name[1:]}:{name}"
        for path in (ROOT / "infra" / "clouds" / "aws").glob("*.py")
        for module, name in CREATED.findall(path.read_text())
        if not name.endswith("Args")
    }
    assert len(ours) > 30
    assert ours == {token for token, _ in stack.made}


@pytest.mark.slow
def test_each_thing_is_found_once_and_none_once_the_engine_has_deleted_it(
    session: boto3.Session, stack: Stack, strangers: Stack
) -> None:
    deploy(stack)
    deploy(strangers)

    assert left(session, stack) == Counter(stack.things)
    stack.destroy()
    assert left(session, stack) == Counter()
    assert left(session, strangers) == Counter(strangers.things)


def test_what_others_left_of_a_stack_is_found_too(session: boto3.Session, stack: Stack) -> None:
    make_others(stack, "subnet-0")

    assert left(session, stack) == Counter(stack.things)
    assert found(sweep(session, "eu-west-1", OURS).left) == Counter([("budget", stack.name("b"))])


LEAVES = (
    *("autoscaling/group:Group", "cloudwatch/metricAlarm:MetricAlarm", "lb/listener:Listener"),
    *("ec2/route:Route", "ec2/routeTableAssociation:RouteTableAssociation"),
    *("ec2/vpcEndpoint:VpcEndpoint", "scheduler/schedule:Schedule"),
    "vpc/securityGroupEgressRule:SecurityGroupEgressRule",
    "vpc/securityGroupIngressRule:SecurityGroupIngressRule",
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", LEAVES)
def test_what_a_killed_up_made_unseen_is_removed_and_nothing_else(
    session: boto3.Session, stack: Stack, kind: str
) -> None:
    deploy(stack)
    there = stack.cloud.resources()
    unseen = stack.cloud.resources(f"aws:{kind}")[-1]
    begun = Begun(type=unseen.type, inputs=unseen.inputs)
    handles = (one.handles for one in there if (one.type, one.id) != (unseen.type, unseen.id))
    known = frozenset(word for words in handles for word in words) - {unseen.id}

    removed = clear_orphans(
        session, REGION, OURS, BrokenOff(is_any=True, begun=(begun,), known=known)
    )

    assert len(removed) == 1, removed
    assert [one.id for one in there if one not in stack.cloud.resources()] == [unseen.id]


def test_a_kept_bucket_that_holds_something_is_not_taken_for_unseen(
    session: boto3.Session, stack: Stack
) -> None:
    name = stack.name("models")
    stack.make("s3/bucket:Bucket", bucket=name, tags={**stack.tags("models"), TAG_RETAIN: "true"})
    begun = Begun(type="aws:s3/bucket:Bucket", inputs={"bucket": name})
    found = BrokenOff(is_any=True, begun=(begun,), known=frozenset())
    open_bucket(f"s3://{name}", REGION).put("a", b"1")

    with pytest.raises(Conflict):
        clear_orphans(session, REGION, OURS, found)
    open_bucket(f"s3://{name}", REGION).delete("a")

    assert clear_orphans(session, REGION, OURS, found) == (f"bucket {name}",)
    assert stack.cloud.resources() == []


def test_every_type_that_our_rooms_make_can_be_made_again_or_is_removed_first(
    stack: Stack,
) -> None:
    deploy(stack)
    again = {token for token, look in LOOKS["aws"].types.items() if look.is_put}

    # A record of Route 53 stays: Pulumi then names it. To subscribe twice is to subscribe once.
    stay = {"aws:route53/record:Record", "aws:sns/topicSubscription:TopicSubscription"}
    assert {token for token, _ in stack.made} == again | KINDS.keys() | PARTS.keys() | stay


@pytest.mark.slow
def test_a_stack_is_cleared_in_rounds_and_another_stays(
    session: boto3.Session, stack: Stack, strangers: Stack
) -> None:
    network = deploy(stack)
    deploy(strangers)
    make_others(stack, network["back"])
    cloud = stack.cloud
    theirs = {(token, resource_id) for token, resource_id in strangers.made}
    objects = open_bucket(f"s3://{stack.name('control')}", REGION)
    for number in range(11):  # more than a page
        objects.put(f"nodes/{number}", b"")

    cleared(session, stack)

    assert {kind for kind, _ in left(session, stack)} == {"key"}  # until its date
    remaining = {(one.type, one.id) for one in cloud.resources()} - theirs
    assert {kind for kind, _ in remaining} == {"aws:kms/key:Key", "aws:route53/record:Record"}
    assert left(session, strangers) == Counter(strangers.things)


def test_what_is_in_use_is_a_conflict_and_what_is_gone_is_missing(api: Api, stack: Stack) -> None:
    network = make_network(stack)
    make_pool(stack, network)
    make_stores(stack)
    [role] = [one for kind, one in stack.things if kind == "role"]
    balancer, vpc = network["balancer"], network["vpc"]

    for service, operation, which in (
        ("ec2", "delete_vpc", {"VpcId": vpc}),
        ("ec2", "delete_security_group", {"GroupId": balancer}),
        ("iam", "delete_role", {"RoleName": role}),
        ("iam", "delete_instance_profile", {"InstanceProfileName": role}),
        ("s3", "delete_bucket", {"Bucket": stack.name("bundle")}),
    ):
        before = stack.cloud.resources()
        with pytest.raises(Conflict):
            api.do(service, operation, **which)
        assert stack.cloud.resources() == before
    for service, operation, which in (
        ("ec2", "delete_vpc", {"VpcId": "vpc-0"}),
        ("autoscaling", "delete_auto_scaling_group", {"AutoScalingGroupName": "nobodys"}),
        ("scheduler", "delete_schedule_group", {"Name": "nobodys"}),
        ("secretsmanager", "delete_secret", {"SecretId": "nobodys"}),
        ("s3", "delete_bucket", {"Bucket": "nobodys"}),
    ):
        with pytest.raises(Missing):
            api.do(service, operation, **which)


def test_a_group_is_sized_within_its_limits(api: Api, stack: Stack) -> None:
    make_pool(stack, {"gateway": "sg-0", "back": "subnet-0"})

    def set_size(group: str, size: int) -> None:
        which = {"AutoScalingGroupName": group}
        api.do("autoscaling", "set_desired_capacity", DesiredCapacity=size, **which)

    set_size(stack.name("training"), 2)
    with pytest.raises(Refused, match="ValidationError: 3 is not within 0 and 2"):
        set_size(stack.name("training"), 3)
    with pytest.raises(Missing, match="nobodys not found"):
        set_size("nobodys", 1)

    assert stack.cloud.the(GROUP).state["desiredCapacity"] == 2


def test_a_group_takes_its_machines_along_only_by_force(
    api: Api, session: boto3.Session, stack: Stack
) -> None:
    name = stack.name("training")
    make_pool(stack, {"gateway": "sg-0", "back": "subnet-0"})
    tags: dict[str, str] = {"atoll:stack-id": OURS, "aws:autoscaling:groupName": name}
    stack.cloud.add_stranger(
        "aws:ec2/instance:Instance", "i-0", instanceType="t3.medium", tagsAll=dict(tags)
    )
    group = {"AutoScalingGroupName": name}

    assert left(session, stack) == Counter([*stack.things, ("instance", "i-0")])
    with pytest.raises(Conflict):
        api.do("autoscaling", "delete_auto_scaling_group", **group)
    api.do("autoscaling", "delete_auto_scaling_group", ForceDelete=True, **group)

    assert stack.cloud.resources("aws:ec2/instance:Instance") == []


def test_one_of_two_writers_of_a_pools_log_wins(control: Store, strict_cloud: StrictCloud) -> None:
    first, second = (PoolLog(control, "training", writer) for writer in ("first", "second"))

    assert first.claim("run-1", NOW)
    assert not second.claim("run-2", NOW)
    assert not second.hold("destroy", NOW)
    assert first.end("run-1", "published", "", NOW)
    assert second.hold("destroy", NOW)
    assert not first.claim("run-3", NOW)
    assert [run.run for run in first.state().runs] == ["run-1"]
    assert asked(strict_cloud).count(("s3", "PutObject")) == 3


def test_of_many_writers_at_once_one_wins(control: Store) -> None:
    logs = [PoolLog(control, "training", f"writer-{number}") for number in range(8)]

    with ThreadPoolExecutor(len(logs)) as threads:
        won = list(threads.map(lambda log: log.claim(f"run-{id(log)}", NOW), logs))

    assert won.count(True) == 1


def test_a_write_whose_answer_is_lost_is_known_again(
    control: Store, strict_cloud: StrictCloud
) -> None:
    strict_cloud.strike("fail_after", "ask", "s3.PutObject")

    assert control.put_if_absent("pools/training/log/00000000", b"mine")
    assert asked(strict_cloud).count(("s3", "PutObject")) == 2


def test_objects_are_read_in_parts_listed_by_pages_and_deleted(control: Store) -> None:
    keys = [f"nodes/{number:02}" for number in range(25)]
    for key in keys:
        control.put(key, key.encode())
    control.put("nodes/00", b"again, and longer")

    assert control.get("nodes/00") == b"again, and longer"
    assert control.get_range("nodes/00", 7, 3) == b"and"
    assert [info.key for info in control.list("nodes")] == keys
    assert [info.key for info in control.list("node")] == []
    assert control.head("nodes/00").size_bytes == 17
    assert abs(store_now(control, "me") - datetime.now(UTC)).total_seconds() < 60
    control.delete("nodes/00")
    control.delete("nodes/00")
    with pytest.raises(Missing):
        control.get("nodes/00")
    with pytest.raises(Corrupt):
        control.get_range("nodes/01", 99, 1)


@pytest.mark.usefixtures("session")
def test_what_the_engine_has_put_is_read(stack: Stack, tmp_path: Path) -> None:
    make_stores(stack)
    (tmp_path / "bundle").write_bytes(b"\0runtime")
    file: Value = {SIGNATURE: ASSET, "path": str(tmp_path / "bundle")}
    stack.make(OBJECT, bucket=stack.name("bundle"), key="c", source=file)

    bundle = open_bucket(f"s3://{stack.name('bundle')}", REGION)

    assert bundle.get("b") == b"runtime"
    assert bundle.get("c") == b"\0runtime"
    assert [info.key for info in bundle.list()] == ["b", "c"]


@pytest.mark.usefixtures("session")
def test_a_bucket_is_there_or_not(stack: Stack) -> None:
    url = f"s3://{stack.name('control')}"

    assert not has_bucket(url, REGION)
    with pytest.raises(Refused, match="no such bucket"):
        open_bucket(url, REGION).get("x")
    make_stores(stack)
    assert has_bucket(url, REGION)


def test_boto3_and_obstore_see_the_same_objects(session: boto3.Session, control: Store) -> None:
    s3, bucket = session.client("s3", region_name=REGION), control.url.removeprefix("s3://")
    s3.put_object(Bucket=bucket, Key="a/b c", Body=b"odd")
    control.put("a/b", b"even")

    listed = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    below = s3.list_objects_v2(Bucket=bucket, Prefix="a/", MaxKeys=1)

    assert [one["Prefix"] for one in listed["CommonPrefixes"]] == ["a/"]
    assert [one["Key"] for one in below["Contents"]] == ["a/b"]
    assert below["IsTruncated"]
    assert s3.get_object(Bucket=bucket, Key="a/b c")["Body"].read() == b"odd"
    with pytest.raises(s3.exceptions.ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key="a/b", Body=b"", IfNoneMatch="*")
    with pytest.raises(s3.exceptions.ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key="a/b", Body=b"", IfMatch='"another"')


@pytest.mark.parametrize(
    ("operation", "which", "says"),
    [
        ("describe_key_pairs", {}, "no answer for ec2.DescribeKeyPairs"),
        (
            "describe_vpcs",
            {"Filters": [{"Name": "state", "Values": ["available"]}]},
            "no answer for ec2.DescribeVpcs by state",
        ),
        ("describe_subnets", {"DryRun": True}, "no answer for ec2.DescribeSubnets by DryRun"),
    ],
)
def test_what_has_no_answer_is_named(
    api: Api, stack: Stack, operation: str, which: dict[str, object], says: str
) -> None:
    make_network(stack)

    with pytest.raises(Unavailable, match=says):
        api.do("ec2", operation, **which)


def test_a_request_can_be_struck(api: Api, stack: Stack) -> None:
    vpc = make_network(stack)["vpc"]
    stack.cloud.strike("fail", "ask", "ec2.DescribeVpcs", error="UnauthorizedOperation: said AWS")
    cut = "Vpcs[].{id: VpcId}"

    with pytest.raises(Refused, match="UnauthorizedOperation: said AWS"):
        api.rows("ec2", "describe_vpcs", cut)

    assert [row.id for row in api.rows("ec2", "describe_vpcs", cut)] == [vpc]
    assert asked(stack.cloud) == [("ec2", "DescribeVpcs")] * 2
