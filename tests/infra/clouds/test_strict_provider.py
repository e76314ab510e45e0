"""The strict double of a cloud's provider: alone, and under the real engine."""

import json
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2 as pb
from pulumi.runtime.proto.provider_pb2_grpc import ResourceProviderStub

from infra.provider.wire import UNKNOWN, Properties, Value, read, write
from tests.doubles.strict_cloud import StrictCloud
from tests.doubles.strict_schema import LOOKS, Sdk
from tests.infra.clouds.conftest import WAIT_S, Bench
from tests.infra.clouds.provider_under_test import create, delete, served, urn

LOOK_S = 0.05
# Importing a whole module of the SDK warns of each of its old classes.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

BUCKET, VPC = "aws:s3/bucket:Bucket", "aws:ec2/vpc:Vpc"
SUBNET, ROLE = "aws:ec2/subnet:Subnet", "aws:iam/role:Role"
OBJECT, GROUP = "aws:s3/bucketObjectv2:BucketObjectv2", "aws:autoscaling/group:Group"
TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
START = """\
import json
import os
import pulumi
import pulumi_aws as aws

chosen = json.loads(os.environ["CHOSEN"])
cloud = aws.Provider("cloud", region="eu-central-1", default_tags={"tags": {"stack": "strict"}})
at = pulumi.ResourceOptions(provider=cloud)
vpc = aws.ec2.Vpc("net", cidr_block=chosen.get("cidr", "10.0.0.0/16"), opts=at)
"""
# One after the other, so that the nth call is known.
CHAIN = f"""{START}
subnet = aws.ec2.Subnet("zone", vpc_id=vpc.id, cidr_block="10.0.1.0/24", opts=at)
after = pulumi.ResourceOptions(provider=cloud, depends_on=[subnet])
aws.s3.Bucket("store", bucket="atoll-store", opts=after)
"""
WHOLE = f"""{START}
asking = pulumi.InvokeOptions(provider=cloud)
image = aws.ssm.get_parameter("/aws/service/ami/latest/ami-id", opts=asking).value
zone = aws.get_availability_zones(state="available", opts=asking).names[0]
who = aws.get_caller_identity(opts=asking).account_id
where = aws.get_region(opts=asking).region

bucket = aws.s3.Bucket("store", opts=at)
source = pulumi.StringAsset("a bundle")
aws.s3.BucketObjectv2("bundle", bucket=bucket, key="bundle.tar", source=source, opts=at)
subnet = aws.ec2.Subnet(
    "zone", vpc_id=vpc.id, availability_zone=zone, cidr_block="10.0.1.0/24", opts=at
)
trust = {{
    "Version": "2012-10-17",
    "Statement": [{{"Effect": "Allow", "Action": "sts:AssumeRole",
                    "Principal": {{"Service": "ec2.amazonaws.com"}}}}],
}}
role = aws.iam.Role("node", path=chosen.get("path", "/"), assume_role_policy=trust, opts=at)
rights = pulumi.Output.json_dumps({{
    "Version": "2012-10-17",
    "Statement": [{{"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": [bucket.arn]}}],
}})
aws.iam.RolePolicy("read", role=role.name, policy=rights, opts=at)
profile = aws.iam.InstanceProfile("node", role=role.name, opts=at)
template = aws.ec2.LaunchTemplate(
    "node", image_id=image, instance_type=chosen.get("machine", "g6.xlarge"),
    user_data=pulumi.Output.secret("hunter2"), iam_instance_profile={{"arn": profile.arn}}, opts=at
)
group = aws.autoscaling.Group(
    "pool", min_size=0, max_size=2, vpc_zone_identifiers=[subnet.id], opts=at,
    launch_template={{"id": template.id, "version": template.latest_version.apply(str)}},
)
pulumi.export("desired", group.desired_capacity)
pulumi.export("facts", [who, where, zone])
"""
WRONG = f"""{START}
aws.ec2.LaunchTemplate(
    "node", network_interfaces=[{{"nope": 1}}], default_version="two", opts=at
)
"""


@pytest.fixture
def provider(strict_cloud: StrictCloud) -> Iterator[ResourceProviderStub]:
    """Of AWS."""
    with served("aws", strict_cloud) as provider:
        yield provider


# An SDK as pulumi's generator writes it, of a cloud that nobody knows; its tokens have no slash.
SKY = {
    "__init__.py": '''LISTED = dict(resource_modules="""
[{"fqn": "pulumi_sky.net", "classes": {"sky:net:Cable": "Cable"}}]
""")''',
    "provider.py": """
import pulumi

@pulumi.input_type
class ProviderArgs:
    def __init__(__self__, *, region: pulumi.Input[str] = None, default_tags=None): ...
""",
    "net.py": """
from typing import Optional
import pulumi

@pulumi.input_type
class CableArgs:
    def __init__(__self__, *, length: pulumi.Input[int], name: pulumi.Input[Optional[str]] = None):
        pass

    @property
    @pulumi.getter
    def length(self) -> pulumi.Input[int]: ...

    @property
    @pulumi.getter
    def name(self) -> pulumi.Input[str]: ...

class Cable(pulumi.CustomResource):
    @property
    @pulumi.getter
    def length(self) -> pulumi.Output[int]: ...

    @property
    @pulumi.getter
    def name(self) -> pulumi.Output[str]: ...

    @property
    @pulumi.getter(name="selfLink")
    def self_link(self) -> pulumi.Output[str]: ...
""",
}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Alow", "Action": "sts:AssumeRole"}],
}


@pytest.mark.parametrize(
    ("token", "inputs", "at", "says"),
    [
        (VPC, {"cidrBlok": "10.0.0.0/16"}, "cidrBlok", "did you mean 'cidrBlock'?"),
        (SUBNET, {}, "vpcId", "SubnetArgs wants property 'vpcId', and it is missing"),
        (VPC, {"enableDnsSupport": "yes"}, "enableDnsSupport", "wants bool, got 'yes'"),
        (VPC, {"tags": ["a"]}, "tags", "wants an object, got a list"),
        (VPC, {"tags": {"a": 1}}, "tags.a", "wants str, got 1"),
        (TEMPLATE, {"vpcSecurityGroupIds": "sg"}, "vpcSecurityGroupIds", "wants a list, got 'sg'"),
        (
            TEMPLATE,
            {"networkInterfaces": [{"nope": 1}]},
            "networkInterfaces[0].nope",
            "no property",
        ),
        (TEMPLATE, {"placement": "near"}, "placement", "wants LaunchTemplatePlacementArgs"),
        (ROLE, {"assumeRolePolicy": "{"}, "assumeRolePolicy", "is not JSON"),
        (
            *(
                ROLE,
                {"assumeRolePolicy": json.dumps(TRUST)},
                "assumeRolePolicy.Statement[0].Effect",
            ),
            "'Alow' is not a value of PolicyStatementEffect: ['Allow', 'Deny']",
        ),
        (
            *(GROUP, {"minSize": 0, "maxSize": 1, "tags": [{"key": "a", "value": "b"}]}),
            *("tags[0].propagateAtLaunch", "and it is missing"),
        ),
        (OBJECT, {"bucket": "b", "source": "bundle.tar"}, "source", "wants an asset"),
        (BUCKET, {"bucket": "Atoll"}, "bucket", "found 'Atoll'; allowed [a-z0-9.-]{3,63}"),
    ],
)
def test_an_input_that_the_sdk_does_not_allow_is_refused(
    provider: ResourceProviderStub, token: str, inputs: Properties, at: str, says: str
) -> None:
    reply = provider.Check(pb.CheckRequest(urn=urn(token), news=write(inputs)))

    [failure] = reply.failures
    assert failure.property == at
    assert says in failure.reason


def test_what_is_not_known_yet_and_what_is_secret_passes(provider: ResourceProviderStub) -> None:
    news = write({"vpcId": UNKNOWN, "cidrBlock": "10.0.1.0/24"}, secret=frozenset({"cidrBlock"}))

    assert not provider.Check(pb.CheckRequest(urn=urn(SUBNET), news=news)).failures


@pytest.mark.parametrize(
    ("config", "at"),
    [
        ({"region": "eu-central-1", "regon": "x"}, ["regon"]),
        ({}, ["region"]),
        ({"region": "eu-central-1", "defaultTags": '{"tag":{}}'}, ["defaultTags.tag"]),
        ({"region": "eu-central-1", "version": "7.51.1", "maxRetries": "3"}, []),
    ],
)
def test_the_providers_own_configuration_is_checked(
    provider: ResourceProviderStub, config: Properties, at: list[str]
) -> None:
    reply = provider.CheckConfig(pb.CheckRequest(news=write(config)))

    assert [failure.property for failure in reply.failures] == at


def test_every_type_and_input_of_the_table_is_one_of_the_sdk() -> None:
    sdk = Sdk("aws")

    for token, look in LOOKS["aws"].types.items():
        kind = sdk.resource(token)
        assert look.replaces - {"*"} <= kind.inputs.hints.keys(), token
        assert look.outputs.keys() <= kind.outputs.keys(), token


def test_a_made_up_name_is_kept_and_a_chosen_one_left_alone(provider: ResourceProviderStub) -> None:
    def name(olds: Properties, news: Properties) -> Value:
        request = pb.CheckRequest(
            urn=urn(BUCKET, "store"), olds=write(olds), news=write(news), randomSeed=b"seed"
        )
        return read(provider.Check(request).inputs).get("bucket")

    made_up = name({}, {})

    assert str(made_up).startswith("store-")
    assert name({"bucket": "store-1234567"}, {}) == "store-1234567"
    assert name({"bucket": "store-1234567"}, {"bucket": "mine"}) == "mine"
    assert name({}, {"bucketPrefix": "mine-"}) is None


def test_outputs_look_real_and_tags_for_everything_are_added(
    provider: ResourceProviderStub,
) -> None:
    vpc_id, vpc = create(provider, VPC, cidrBlock="10.0.0.0/16", tags={"Name": "net"})
    arn, certificate = create(
        provider, "aws:acm/certificate:Certificate", domainName="atoll.example"
    )
    _, balancer = create(provider, "aws:lb/loadBalancer:LoadBalancer", name="front")
    _, address = create(provider, "aws:ec2/eip:Eip", domain="vpc")

    assert vpc["arn"] == f"arn:aws:ec2:eu-central-1:123456789012:vpc/{vpc_id}"
    assert vpc["tagsAll"] == {"stack": "strict", "Name": "net"}
    assert str(balancer["dnsName"]).startswith("front-")
    assert str(balancer["dnsName"]).endswith(".eu-central-1.elb.amazonaws.com")
    assert str(address["publicIp"]).count(".") == 3
    assert arn == certificate["arn"]
    assert "'domainName': 'atoll.example'" in str(certificate["domainValidationOptions"])


def test_a_taken_name_is_refused(strict_cloud: StrictCloud, provider: ResourceProviderStub) -> None:
    strict_cloud.add_stranger(BUCKET, "atoll-store")

    with pytest.raises(grpc.RpcError, match=f"AlreadyExists: {BUCKET} atoll-store"):
        create(provider, BUCKET, bucket="atoll-store")


@pytest.mark.parametrize(
    ("old", "new", "replaces", "is_old_deleted_first"),
    [
        ({"path": "/"}, {"path": "/a/"}, ["path"], True),
        ({"description": "a"}, {"description": "b"}, [], False),
    ],
)
def test_a_chosen_name_is_free_only_when_the_old_one_is_gone(
    provider: ResourceProviderStub,
    old: Properties,
    new: Properties,
    replaces: list[str],
    is_old_deleted_first: bool,
) -> None:
    named: Properties = {"name": "node"}
    request = pb.DiffRequest(urn=urn(ROLE), old_inputs=write(old | named), news=write(new | named))

    reply = provider.Diff(request)

    assert list(reply.replaces) == replaces
    assert reply.deleteBeforeReplace == is_old_deleted_first


def test_what_others_refer_to_is_not_deleted(
    strict_cloud: StrictCloud, provider: ResourceProviderStub
) -> None:
    vpc_id, _ = create(provider, VPC, cidrBlock="10.0.0.0/16")
    create(provider, SUBNET, vpcId=vpc_id)

    with pytest.raises(
        grpc.RpcError, match=rf"DependencyViolation: .*{vpc_id} is used by .*\(vpcId\)"
    ):
        delete(provider, VPC, vpc_id)

    strict_cloud.remove(strict_cloud.the(SUBNET).id)
    delete(provider, VPC, vpc_id)
    delete(provider, VPC, vpc_id)  # gone is fine
    assert strict_cloud.resources() == []


def test_a_shared_name_refers_to_what_its_place_speaks_of(provider: ResourceProviderStub) -> None:
    create(provider, ROLE, name="atoll", assumeRolePolicy="{}")
    create(provider, GROUP, name="atoll", minSize=0, maxSize=1)
    create(provider, "aws:iam/instanceProfile:InstanceProfile", name="atoll", role="atoll")

    delete(provider, GROUP, "atoll")

    with pytest.raises(grpc.RpcError, match=r"InstanceProfile atoll \(role\)"):
        delete(provider, ROLE, "atoll")


@pytest.mark.parametrize("is_forced", [False, True])
def test_a_bucket_that_holds_something_is_deleted_only_by_force(
    strict_cloud: StrictCloud, provider: ResourceProviderStub, is_forced: bool
) -> None:
    create(provider, BUCKET, bucket="store", forceDestroy=is_forced)
    strict_cloud.add_stranger(OBJECT, "store/step-7", bucket="store", key="step-7")

    if not is_forced:
        with pytest.raises(grpc.RpcError, match=r"BucketNotEmpty: .* such as store/step-7"):
            delete(provider, BUCKET, "store")
        strict_cloud.remove("store/step-7")
    delete(provider, BUCKET, "store")

    assert strict_cloud.resources() == []


def test_a_package_without_a_table_is_served_by_rule(
    strict_cloud: StrictCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in SKY.items():
        (tmp_path / "pulumi_sky").mkdir(exist_ok=True)
        (tmp_path / "pulumi_sky" / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    with served("sky", strict_cloud) as provider:
        wrong = provider.Check(pb.CheckRequest(urn=urn("sky:net:Cable"), news=write({"longth": 3})))
        cable_id, cable = create(provider, "sky:net:Cable", name="deep", length=3)
        with pytest.raises(grpc.RpcError, match="no resource type sky:net:Rope"):
            create(provider, "sky:net:Rope")

    assert [failure.property for failure in wrong.failures] == ["longth", "length"]
    assert cable_id == "deep"
    assert cable["length"] == 3
    assert str(cable["selfLink"]).startswith("selfLink-")


def test_a_delay_ends_when_the_engine_cancels(
    strict_cloud: StrictCloud, provider: ResourceProviderStub
) -> None:
    strict_cloud.strike("delay", "create", VPC, delay_s=WAIT_S)

    waiting = provider.Create.future(pb.CreateRequest(urn=urn(VPC)))
    while not strict_cloud.calls("create"):
        time.sleep(LOOK_S)
    provider.Cancel(empty_pb2.Empty())

    with pytest.raises(grpc.RpcError, match="cancelled while waiting"):
        waiting.result()
    assert strict_cloud.resources() == []


def test_a_function_without_an_answer_is_named(provider: ResourceProviderStub) -> None:
    for token in ("aws:ec2/getAmi:getAmi", "aws:ssm/getParameter:getParameter"):
        request = pb.InvokeRequest(tok=token, args=write({"name": "/nowhere"}))
        with pytest.raises(grpc.RpcError, match=token):
            provider.Invoke(request)


def test_a_fault_comes_at_the_nth_call_that_fits_and_once(
    strict_cloud: StrictCloud, provider: ResourceProviderStub
) -> None:
    strict_cloud.strike("fail", "create", "aws:ec2/*", nth=2, error="RequestLimitExceeded")

    create(provider, ROLE, name="a", assumeRolePolicy="{}")
    create(provider, VPC, cidrBlock="10.0.0.0/16")
    with pytest.raises(grpc.RpcError, match="RequestLimitExceeded"):
        create(provider, VPC, cidrBlock="10.0.0.0/16")
    create(provider, VPC, cidrBlock="10.0.0.0/16")

    assert len(strict_cloud.resources(VPC)) == 2
    assert [call.type for call in strict_cloud.calls("create")] == [ROLE, VPC, VPC, VPC]


@pytest.mark.slow
def test_a_stack_comes_up_stays_changes_and_goes(bench: Bench) -> None:
    cloud = bench.cloud
    bench.write(WHOLE)

    preview = bench.run("preview")
    assert preview.status == 0, preview.said
    assert cloud.resources() == []
    assert len(cloud.calls("create", is_preview=True)) == 9

    up = bench.up()
    assert up.status == 0, up.said
    assert "11 created" in up.said
    assert re.search(r'"123456789012"\s.*"eu-central-1"\s.*"eu-central-1a"', up.said)
    assert "hunter2" not in bench.state()
    made = cloud.resources()

    cloud.change(cloud.the(GROUP).id, desiredCapacity=2)  # by a schedule
    assert "11 unchanged" in bench.up().said
    still = bench.run("preview", "--refresh", "--expect-no-changes")
    assert still.status == 0, still.said

    other_machine = bench.up(machine="g6e.xlarge")
    assert "2 updated" in other_machine.said
    assert [r.id for r in cloud.resources()] == [r.id for r in made]
    assert cloud.the(TEMPLATE).state["latestVersion"] == 2
    assert cloud.the(GROUP).inputs["launchTemplate"] == {
        "id": cloud.the(TEMPLATE).id,
        "version": "2",
    }
    assert cloud.the(GROUP).state["desiredCapacity"] == 2

    other_net = bench.up(machine="g6e.xlarge", cidr="10.1.0.0/16", path="/atoll/")
    assert "4 replaced" in other_net.said, other_net.said
    assert cloud.the(VPC).id not in [r.id for r in made]
    assert cloud.the(ROLE).id not in [r.id for r in made]  # a made-up name is made up anew
    assert cloud.the(GROUP).inputs["vpcZoneIdentifiers"] == [cloud.the(SUBNET).id]

    assert bench.destroy().status == 0
    assert cloud.resources() == []


@pytest.mark.slow
def test_wrong_inputs_fail_the_preview_with_their_paths(bench: Bench) -> None:
    bench.write(WRONG)

    preview = bench.run("preview")

    assert preview.status != 0
    assert "networkInterfaces[0].nope" in preview.said
    assert "LaunchTemplateNetworkInterfaceArgs has no property 'nope'" in preview.said
    assert "defaultVersion value {two} has a problem: wants int, got 'two'" in preview.said


@pytest.mark.slow
def test_a_create_that_fails_is_made_by_the_next_up_and_a_partial_one_updated(bench: Bench) -> None:
    cloud = bench.cloud
    bench.write(CHAIN)
    cloud.strike("fail", "create", nth=2, error="InsufficientFreeAddresses")
    cloud.strike("fail_after", "create", BUCKET, error="SlowDown")

    failed = bench.up()
    assert "InsufficientFreeAddresses" in failed.said
    assert [r.type for r in cloud.resources()] == [VPC]
    partial = bench.up()
    assert "SlowDown" in partial.said
    assert [r.type for r in cloud.resources()] == [VPC, SUBNET, BUCKET]
    healed = bench.up()

    assert failed.status != 0
    assert partial.status != 0
    assert healed.status == 0, healed.said
    assert "1 updated" in healed.said
    assert Counter(call.type for call in cloud.calls("create")) == {VPC: 1, SUBNET: 2, BUCKET: 1}


def running(folder: Path) -> list[str]:
    """Command lines of programs in a folder."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            lines.append(path.read_bytes().decode(errors="replace"))
    return [line for line in lines if str(folder) in line]


@pytest.mark.slow
@pytest.mark.parametrize("deed", ["kill", "kill_after"])
def test_an_up_that_is_killed_goes_on_after_cancel_unless_something_was_made_unseen(
    bench: Bench, deed: Literal["kill", "kill_after"]
) -> None:
    bench.write(CHAIN)
    bench.cloud.strike(deed, nth=2)

    killed = bench.up()
    cancelled = bench.run("cancel", "--yes")
    healed = bench.up()

    assert killed.status == -signal.SIGKILL
    assert running(bench.root.parent / "bin") == []
    assert cancelled.status == 0, cancelled.said
    assert "interrupted while creating" in healed.said
    # What was made and told nobody stands in the way of its second edition.
    assert (healed.status == 0) == (deed == "kill"), healed.said
    assert ("AlreadyExists" in healed.said) == (deed == "kill_after")
    assert len(bench.cloud.resources(SUBNET)) == 1


@pytest.mark.slow
def test_what_strangers_hold_in_ours_stops_a_destroy_and_is_named(bench: Bench) -> None:
    cloud = bench.cloud
    bench.write(CHAIN)
    assert bench.up().status == 0
    cloud.add_stranger("aws:ec2/securityGroup:SecurityGroup", "sg-1", vpcId=cloud.the(VPC).id)
    cloud.add_stranger(OBJECT, "atoll-store/step-7", bucket="atoll-store", key="step-7")

    stopped_by_object = bench.destroy()
    cloud.remove("atoll-store/step-7")
    stopped_by_group = bench.destroy()
    cloud.remove("sg-1")
    gone = bench.destroy()

    assert "BucketNotEmpty" in stopped_by_object.said
    assert "DependencyViolation" in stopped_by_group.said
    assert "sg-1 (vpcId)" in stopped_by_group.said
    assert gone.status == 0, gone.said
    assert cloud.resources() == []
    assert [c.type for c in cloud.calls("delete")] == [BUCKET, BUCKET, SUBNET, VPC, VPC]


@pytest.mark.slow
def test_what_was_done_by_hand_is_noticed_and_put_right(bench: Bench) -> None:
    cloud = bench.cloud
    bench.write(CHAIN)
    assert bench.up().status == 0
    cloud.remove("atoll-store")
    cloud.change(cloud.the(SUBNET).id, cidrBlock="10.0.9.0/24")

    healed = bench.up("--refresh")

    assert healed.status == 0, healed.said
    assert "1 created" in healed.said
    assert "1 replaced" in healed.said
    assert cloud.the(SUBNET).state["cidrBlock"] == "10.0.1.0/24"
    assert cloud.the(BUCKET).id == "atoll-store"
