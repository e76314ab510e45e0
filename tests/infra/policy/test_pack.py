"""The pack on the real engine: what it finds fails a preview, what is well made passes it."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, unknown_checking_proxy

from infra.policy.pack import plain, policies
from infra.policy.rules import RULES, STACK_RULES
from infra.policy.values import UNKNOWN
from tests.conftest import ROOT
from tests.infra.clouds.conftest import Bench

PACK = str(ROOT / "infra" / "policy")
START = """\
import pulumi
import pulumi_aws as aws
from infra.policy.aws import TAGS

at = pulumi.ResourceOptions(provider=aws.Provider("cloud", region="eu-central-1"))
tags = dict.fromkeys(TAGS, "x")
of_balancer = tags | {"atoll:role": "balancer"}
vpc = aws.ec2.Vpc("net", cidr_block="10.0.0.0/16", tags=tags, opts=at)
group = aws.ec2.SecurityGroup("front", vpc_id=vpc.id, tags=of_balancer, opts=at)
data = aws.s3.Bucket("data", force_destroy=True, tags=tags, opts=at)
aws.s3.BucketServerSideEncryptionConfiguration(
    "data", bucket=data.id, opts=at,
    rules=[{"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}],
)
"""
BAD = f"""{START}
aws.s3.BucketAcl("data", bucket=data.id, acl="public-read", opts=at)
aws.vpc.SecurityGroupIngressRule(
    "clients", security_group_id=group.id, cidr_ipv4="0.0.0.0/0", ip_protocol="tcp",
    from_port=22, to_port=22, tags=of_balancer, opts=at,
)
"""
# The role's rights are not known before the bucket is made.
GOOD = f"""{START}
import json
import os

chosen = json.loads(os.environ["CHOSEN"])
aws.s3.BucketPublicAccessBlock(
    "data", bucket=data.id, block_public_acls=True, block_public_policy=True,
    ignore_public_acls=True, restrict_public_buckets=True, opts=at,
)
aws.vpc.SecurityGroupIngressRule(
    "clients", security_group_id=group.id, cidr_ipv4="0.0.0.0/0", ip_protocol="tcp",
    from_port=443, to_port=443, tags=of_balancer, opts=at,
)

def document(**statement):
    told = {{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", **statement}}]}}
    return pulumi.Output.json_dumps(told)

trust = document(Action="sts:AssumeRole", Principal={{"Service": "ec2.amazonaws.com"}})
role = aws.iam.Role("node", assume_role_policy=trust, tags=tags, opts=at)
keys = data.arn.apply(lambda arn: chosen.get("keys", arn + "/*"))
aws.iam.RolePolicy(
    "node", role=role.name, policy=document(Action="s3:GetObject", Resource=keys), opts=at
)
aws.autoscaling.Group(
    "pool", min_size=0, max_size=9, availability_zones=["eu-central-1a"],
    launch_template={{"id": "lt-1"}}, opts=at,
    tags=[{{"key": key, "value": "x", "propagate_at_launch": True}} for key in tags],
)
"""


def test_all_rules_are_policies_with_names_of_their_own() -> None:
    names = [policy.name for policy in policies()]

    assert len(set(names)) == len(names) == len(RULES) + len(STACK_RULES) + 1


def test_what_pulumi_does_not_know_yet_is_unknown_at_any_depth() -> None:
    told = {"a": UNKNOWN_STRING_VALUE, "b": [{"c": UNKNOWN_STRING_VALUE, "d": 1.0}, "e"]}
    props: Mapping[str, object] = unknown_checking_proxy(told)

    assert plain(props) == {"a": UNKNOWN, "b": [{"c": UNKNOWN, "d": 1.0}, "e"]}


@pytest.mark.slow
def test_a_public_store_and_an_open_port_fail_the_preview_by_name(bench: Bench) -> None:
    bench.write(BAD)

    preview = bench.run("preview", "--policy-pack", PACK)

    assert preview.status != 0
    for said in (
        "[mandatory]  no-public-store  (aws:s3:BucketAcl: data)",
        "acl: found public-read; allowed private; remove it",
        "[mandatory]  no-open-port  (aws:vpc:SecurityGroupIngressRule: clients)",
        "ipProtocol: found tcp 22 of balancer open to 0.0.0.0/0; allowed tcp 443 of the balancer",
        "[mandatory]  stores-are-closed  (aws:s3:Bucket: data)",
        "BucketPublicAccessBlock: found none; allowed one for each bucket; add it",
    ):
        assert said in preview.said, preview.said
    assert preview.said.count("[mandatory]") == 3


@pytest.mark.slow
def test_a_good_stack_passes_and_what_only_up_knows_is_refused_by_up(bench: Bench) -> None:
    bench.write(GOOD)

    preview = bench.run("preview", "--policy-pack", PACK)
    late = bench.up("--policy-pack", PACK, keys="*")

    assert preview.status == 0, preview.said
    assert "[mandatory]" not in preview.said
    assert "can't run policy" not in preview.said
    assert late.status != 0
    assert "policy.Statement[0].Resource: found *" in late.said
    assert bench.cloud.resources("aws:iam/rolePolicy:RolePolicy") == []


@pytest.mark.slow
def test_the_cap_of_a_pool_is_a_setting_of_the_pack(bench: Bench, tmp_path: Path) -> None:
    bench.write(GOOD)
    config = tmp_path / "pack.json"
    config.write_text(json.dumps({"few-nodes": {"nodes_max": 8}}))

    preview = bench.run("preview", "--policy-pack", PACK, "--policy-pack-config", str(config))

    assert preview.status != 0
    assert "maxSize: found 9; allowed 0 to 8; lower it, or raise nodes_max" in preview.said
