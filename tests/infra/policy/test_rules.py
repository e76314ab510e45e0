"""Each rule with what it lets pass and what it refuses; every example has the SDK's own names."""

import copy
import json
from collections.abc import Iterator
from typing import cast

import pytest

from infra.clouds.aws.tags import TAG_ID, TAG_PROJECT, TAG_RETAIN, TAG_ROLE, TAG_STACK
from infra.plan.names import NODES_MAX
from infra.policy import aws
from infra.policy.rules import RULES, STACK_RULES, Declared, node_faults
from infra.policy.values import UNKNOWN, Properties
from infra.provider import wire
from tests.doubles.strict_schema import Sdk
from tests.infra.clouds.aws.declared import declared_types, token_of

# Importing a whole module of the SDK warns of each of its old classes.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

BUCKET, BUCKET_ACL = "aws:s3/bucket:Bucket", "aws:s3/bucketAcl:BucketAcl"
BLOCK = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
BUCKET_POLICY = "aws:s3/bucketPolicy:BucketPolicy"
OBJECT = "aws:s3/bucketObjectv2:BucketObjectv2"
CIPHER = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
LOCK = "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration"
INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
OLD_RULE = "aws:ec2/securityGroupRule:SecurityGroupRule"
SECURITY_GROUP = "aws:ec2/securityGroup:SecurityGroup"
TEMPLATE, POOL = "aws:ec2/launchTemplate:LaunchTemplate", "aws:autoscaling/group:Group"
INSTANCE, VOLUME = "aws:ec2/instance:Instance", "aws:ebs/volume:Volume"
SUBNET, ADDRESS = "aws:ec2/subnet:Subnet", "aws:ec2/eip:Eip"
BINDING = "aws:ec2/eipAssociation:EipAssociation"
ROLE, RIGHTS = "aws:iam/role:Role", "aws:iam/rolePolicy:RolePolicy"
ATTACHMENT = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
BALANCER, LOG_GROUP = "aws:lb/loadBalancer:LoadBalancer", "aws:cloudwatch/logGroup:LogGroup"

TAGS: Properties = {
    "Name": "atoll-5e1f0a2b-x",
    "atoll:project": "atoll",
    "atoll:stack": "aws",
    "atoll:stack-id": "5e1f0a2b",
    "atoll:role": "training",
}
OF_BALANCER: Properties = {**TAGS, "atoll:role": "balancer"}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "ec2.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


def allow(**changes: object) -> str:
    """A policy of one statement."""
    statement: dict[str, object] = {
        "Effect": "Allow",
        "Action": ["s3:GetObject"],
        "Resource": ["arn:aws:s3:::atoll-5e1f0a2b-models/*"],
    }
    told = {key: value for key, value in {**statement, **changes}.items() if value is not None}
    return json.dumps({"Version": "2012-10-17", "Statement": [told]})


SIZE = "arn:aws:autoscaling:eu-central-1:123456789012:autoScalingGroup:*:autoScalingGroupName/a"
# As the kit makes them.
GOOD: dict[str, Properties] = {
    BUCKET: {"bucket": "atoll-x", "forceDestroy": True, "tags": TAGS},
    BLOCK: {"bucket": "atoll-x", **dict.fromkeys(aws.SWITCHES, True)},
    BUCKET_POLICY: {
        "bucket": "atoll-x",
        "policy": allow(Effect="Deny", Principal="*", Action="s3:*", Resource="*"),
    },
    BUCKET_ACL: {"bucket": "atoll-x", "acl": "private"},
    OBJECT: {"bucket": "atoll-x", "key": "bundle"},
    CIPHER: {
        "bucket": "atoll-x",
        "rules": [{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "AES256"}}],
    },
    INGRESS: {
        "securityGroupId": "sg-1",
        "cidrIpv4": "0.0.0.0/0",
        "ipProtocol": "tcp",
        "fromPort": 443,
        "toPort": 443,
        "tags": OF_BALANCER,
    },
    OLD_RULE: {
        "type": "egress",
        "securityGroupId": "sg-1",
        "cidrBlocks": ["0.0.0.0/0"],
        "protocol": "all",
        "fromPort": 0,
        "toPort": 0,
    },
    SECURITY_GROUP: {
        "ingress": [
            {"cidrBlocks": ["10.0.0.0/16"], "protocol": "tcp", "fromPort": 8080, "toPort": 8080}
        ],
        "tags": TAGS,
    },
    TEMPLATE: {
        "metadataOptions": {
            "httpEndpoint": "enabled",
            "httpTokens": "required",
            "httpPutResponseHopLimit": 1,
        },
        "blockDeviceMappings": [{"deviceName": "/dev/sda1", "ebs": {"encrypted": "true"}}],
        "networkInterfaces": [{"associatePublicIpAddress": "false"}],
        "tagSpecifications": [
            {"resourceType": kind, "tags": TAGS}
            for kind in ("instance", "volume", "network-interface")
        ],
        "tags": TAGS,
    },
    INSTANCE: {
        "metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 1},
        "rootBlockDevice": {"encrypted": True},
        "ebsBlockDevices": [{"deviceName": "/dev/sdb", "encrypted": True}],
        "tags": TAGS,
    },
    VOLUME: {"availabilityZone": "eu-central-1a", "encrypted": True, "tags": TAGS},
    SUBNET: {"vpcId": "vpc-1", "mapPublicIpOnLaunch": False, "tags": TAGS},
    ADDRESS: {"domain": "vpc", "tags": TAGS},
    ROLE: {
        "assumeRolePolicy": json.dumps(TRUST),
        "inlinePolicies": [{"name": "read", "policy": allow()}],
        "tags": TAGS,
    },
    RIGHTS: {
        "role": "atoll-x",
        "policy": allow(Action="autoscaling:SetDesiredCapacity", Resource=SIZE),
    },
    ATTACHMENT: {
        "role": "atoll-x",
        "policyArn": "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore",
    },
    BALANCER: {"enableDeletionProtection": False, "tags": TAGS},
    LOG_GROUP: {"retentionInDays": 14, "tags": TAGS},
    POOL: {
        "minSize": 0,
        "maxSize": NODES_MAX + 1,
        "tags": [{"key": k, "value": v, "propagateAtLaunch": True} for k, v in TAGS.items()],
    },
}
LAUNCHED = GOOD[TEMPLATE]["tagSpecifications"]
assert isinstance(LAUNCHED, list)


def public(acl: str) -> Properties:
    return {"acl": acl}


EVERYBODY = "http://acs.amazonaws.com/groups/global/AllUsers"
GRANTED = [{"permission": "READ", "grantee": {"type": "Group", "uri": EVERYBODY}}]
BAD: list[tuple[str, str, Properties, str]] = [
    *(
        ("no-public-store", BLOCK, {name: value}, f"{name}: found {value}; allowed true")
        for name in aws.SWITCHES
        for value in (False, None)
    ),
    *(
        ("no-public-store", token, public(acl), f"acl: found {acl}")
        for token, acl in ((BUCKET, "public-read"), (BUCKET_ACL, "public-read-write"))
    ),
    ("no-public-store", OBJECT, public("authenticated-read"), "acl: found authenticated-read"),
    (
        "no-public-store",
        BUCKET,
        {"grants": [{"permissions": ["READ"], "type": "Group", "uri": EVERYBODY}]},
        f"grants[0]: found {EVERYBODY}",
    ),
    (
        "no-public-store",
        BUCKET_ACL,
        {"acl": None, "accessControlPolicy": {"owner": {"id": "o"}, "grants": GRANTED}},
        f"accessControlPolicy.grants[0]: found {EVERYBODY}",
    ),
    (
        "no-public-store",
        BUCKET_POLICY,
        {"policy": allow(Principal="*")},
        "policy.Statement[0].Principal: found *",
    ),
    (
        "no-public-store",
        BUCKET_POLICY,
        {"policy": allow(Principal={"AWS": ["arn:aws:iam::123456789012:root", "*"]})},
        "policy.Statement[0].Principal.AWS: found *",
    ),
    (
        "no-public-store",
        BUCKET_POLICY,
        {"policy": allow(NotPrincipal={"AWS": "123456789012"})},
        "found NotPrincipal in an Allow",
    ),
    ("no-public-store", BUCKET, {"policy": allow(Principal="*")}, "Principal: found *"),
    (
        *("no-open-port", INGRESS, {"fromPort": 80, "toPort": 80}),
        "found tcp 80 of balancer open to 0.0.0.0/0; allowed tcp 443 of the balancer",
    ),
    ("no-open-port", INGRESS, {"toPort": 65535}, "found tcp 443-65535 of balancer"),
    ("no-open-port", INGRESS, {"ipProtocol": "udp"}, "found udp 443"),
    ("no-open-port", INGRESS, {"ipProtocol": "-1", "fromPort": None, "toPort": None}, "-1 all"),
    ("no-open-port", INGRESS, {"tags": TAGS}, "found tcp 443 of training"),
    (
        *("no-open-port", INGRESS, {"cidrIpv4": None, "cidrIpv6": "::/0", "fromPort": 22}),
        "open to ::/0",
    ),
    ("no-open-port", INGRESS, {"cidrIpv4": "128.0.0.0/1", "fromPort": 80}, "128.0.0.0/1"),
    ("no-open-port", OLD_RULE, {"type": "ingress"}, "found all 0 of no role"),
    (
        "no-open-port",
        SECURITY_GROUP,
        {
            "ingress": [
                {"ipv6CidrBlocks": ["::/0"], "protocol": "tcp", "fromPort": 22, "toPort": 22}
            ]
        },
        "ingress[0].protocol: found tcp 22 of training open to ::/0",
    ),
    ("encrypted", CIPHER, {"rules": []}, "rules: found none"),
    ("encrypted", TEMPLATE, {"blockDeviceMappings": None}, "blockDeviceMappings: found none"),
    (
        "encrypted",
        TEMPLATE,
        {"blockDeviceMappings": [{"ebs": {"encrypted": "true"}}, {"ebs": {"volumeSize": 9}}]},
        "blockDeviceMappings[1].ebs.encrypted: found None; allowed true",
    ),
    ("encrypted", INSTANCE, {"rootBlockDevice": None}, "rootBlockDevice.encrypted: found None"),
    (
        "encrypted",
        INSTANCE,
        {"ebsBlockDevices": [{"deviceName": "/dev/sdb", "encrypted": False}]},
        "ebsBlockDevices[0].encrypted: found False",
    ),
    ("encrypted", VOLUME, {"encrypted": None}, "encrypted: found None"),
    *(
        ("credentials-stay-on-the-node", token, {"metadataOptions": options}, f"{name}: found")
        for token in (TEMPLATE, INSTANCE)
        for name, options in (
            ("httpTokens", {"httpTokens": "optional", "httpPutResponseHopLimit": 1}),
            ("httpPutResponseHopLimit", {"httpTokens": "required", "httpPutResponseHopLimit": 2}),
            ("httpTokens", None),
        )
    ),
    (
        "no-public-node",
        TEMPLATE,
        {"networkInterfaces": [{}, {"associatePublicIpAddress": "true"}]},
        "networkInterfaces[1].associatePublicIpAddress: found true",
    ),
    ("no-public-node", INSTANCE, {"associatePublicIpAddress": True}, "associatePublicIpAddress"),
    ("no-public-node", SUBNET, {"mapPublicIpOnLaunch": True}, "mapPublicIpOnLaunch: found true"),
    ("no-public-node", ADDRESS, {"instance": "i-1"}, "instance: found a node's"),
    ("tagged", SUBNET, {"tags": None}, "tags: found none; allowed all five; add Name, atoll:pro"),
    ("tagged", SUBNET, {"tags": {**TAGS, "atoll:role": ""}}, "; add atoll:role"),
    ("tagged", POOL, {"tags": []}, "tags: found none"),
    (
        "tagged",
        TEMPLATE,
        {"tagSpecifications": LAUNCHED[:2]},
        "tagSpecifications of each network-interface: found none",
    ),
    ("no-wildcard-right", RIGHTS, {"policy": allow(Action="*")}, "Action: found *"),
    ("no-wildcard-right", RIGHTS, {"policy": allow(Action=["s3:Get*"])}, "Action: found s3:Get*"),
    *(
        ("no-wildcard-right", RIGHTS, {"policy": allow(Resource=arn)}, f"Resource: found {arn}")
        for arn in ("*", "arn:aws:s3:::*", "arn:aws:iam::123456789012:role/*", "arn:aws:*:::x")
    ),
    *(
        ("no-wildcard-right", RIGHTS, {"policy": allow(**{name: ["s3:x"]})}, f"found {name}")
        for name in ("NotAction", "NotResource")
    ),
    ("no-wildcard-right", RIGHTS, {"policy": "{"}, "policy: found no JSON"),
    (
        "no-wildcard-right",
        ROLE,
        {"assumeRolePolicy": json.dumps(TRUST).replace("ec2.amazonaws.com", "*")},
        "assumeRolePolicy.Statement[0].Principal.Service: found *",
    ),
    (
        "no-wildcard-right",
        ROLE,
        {"inlinePolicies": [{"policy": allow(Action="iam:*")}]},
        "inlinePolicies[0].Statement[0].Action: found iam:*",
    ),
    *(
        ("no-wildcard-right", ATTACHMENT, {"policyArn": arn}, f"policyArn: found {arn}")
        for arn in (
            "arn:aws:iam::aws:policy/AdministratorAccess",
            "arn:aws:iam::aws:policy/AmazonS3FullAccess",
            "arn:aws:iam::aws:policy/job-function/PowerUserAccess",
        )
    ),
    ("no-undeletable", BUCKET, {"forceDestroy": False}, "forceDestroy: found False; allowed true"),
    ("no-undeletable", BUCKET, {"objectLockEnabled": True}, "objectLockEnabled: found true"),
    ("no-undeletable", BALANCER, {"enableDeletionProtection": True}, "enableDeletionProtection"),
    ("no-undeletable", TEMPLATE, {"disableApiTermination": True}, "disableApiTermination"),
    ("no-undeletable", LOG_GROUP, {"skipDestroy": True}, "skipDestroy: found true; allowed false"),
    ("no-undeletable", POOL, {"protectFromScaleIn": True}, "protectFromScaleIn: found true"),
]


def changed(token: str, changes: Properties) -> Properties:
    """A good one, with something of it changed or, for None, left out."""
    told = {**copy.deepcopy(GOOD[token]), **changes}
    return {name: value for name, value in told.items() if value is not None}


def faults(token: str, properties: Properties) -> Iterator[tuple[str, str]]:
    """Rule and what it says, of all rules."""
    for rule in RULES:
        yield from ((rule.name, fault) for fault in rule.faults(token, properties))


@pytest.mark.parametrize("token", GOOD)
def test_what_the_kit_makes_passes_all_rules(token: str) -> None:
    assert list(faults(token, GOOD[token])) == []
    assert list(node_faults(token, GOOD[token])) == []


@pytest.mark.parametrize(("rule", "token", "changes", "says"), BAD)
def test_what_is_not_allowed_is_refused_by_its_rule_alone(
    rule: str, token: str, changes: Properties, says: str
) -> None:
    found = list(faults(token, changed(token, changes)))

    assert {name for name, _ in found} == {rule}
    assert says in found[0][1]


def test_a_binding_of_an_address_to_a_node_and_a_lock_on_objects_are_refused() -> None:
    [binding] = faults(BINDING, {"instanceId": UNKNOWN, "allocationId": "eipalloc-1"})
    [lock] = faults(LOCK, {"bucket": "atoll-x"})

    assert binding[0] == "no-public-node"
    assert lock[0] == "no-undeletable"


def test_every_rule_has_an_example_that_it_refuses() -> None:
    assert {rule for rule, *_ in BAD} == {rule.name for rule in RULES}


def test_a_store_that_is_kept_is_no_fault() -> None:
    kept = changed(BUCKET, {"forceDestroy": False, "tags": {**TAGS, "atoll:retain": "true"}})

    assert list(faults(BUCKET, kept)) == []


@pytest.mark.parametrize("clients", ["203.0.113.0/24", "10.0.0.0/8", "2001:db8::/32"])
def test_ranges_of_somebodys_own_may_reach_port_80(clients: str) -> None:
    family = "cidrIpv6" if ":" in clients else "cidrIpv4"
    narrow = changed(INGRESS, {"cidrIpv4": None, "fromPort": 80, "toPort": 80} | {family: clients})

    assert list(faults(INGRESS, narrow)) == []


@pytest.mark.parametrize("token", GOOD)
def test_what_is_not_known_yet_is_no_fault(token: str) -> None:
    for name in GOOD[token]:
        assert list(faults(token, {**GOOD[token], name: UNKNOWN})) == [], name
    unknown_tags = {**GOOD[token], "tags": dict.fromkeys(TAGS, UNKNOWN)}
    assert token == POOL or list(faults(token, unknown_tags)) == []


def test_a_pool_over_its_cap_is_refused_and_the_cap_is_a_setting() -> None:
    size = {"minSize": 0, "maxSize": NODES_MAX + 2.0}

    [fault] = node_faults(POOL, size)

    assert fault.startswith(f"maxSize: found {NODES_MAX + 2}; allowed 0 to {NODES_MAX + 1}; lower")
    assert list(node_faults(POOL, size, nodes_max=100)) == []
    assert len(list(node_faults(POOL, {"maxSize": 4, "desiredCapacity": 4}, nodes_max=3))) == 2


def store(name: str) -> Declared:
    return Declared(urn=name, token=BUCKET, properties={"bucket": name})


def beside(token: str, bucket: object, of: str = "") -> Declared:
    uses = {"bucket": [of]} if of else {}
    return Declared(urn=token, token=token, properties={"bucket": bucket}, uses=uses)


def of_stack(*resources: Declared) -> list[tuple[str, str]]:
    """Rule and resource, of all rules that see the whole stack."""
    return [
        (rule.name, each.urn) for rule in STACK_RULES for each, _ in rule.faults(list(resources))
    ]


def test_each_store_needs_a_block_and_a_cipher_of_its_own() -> None:
    data, models = store("data"), store("models")
    by_name = [beside(token, "data") for token in (BLOCK, CIPHER)]
    by_use = [beside(token, UNKNOWN, of="models") for token in (BLOCK, CIPHER)]

    assert of_stack(data, models, *by_name, *by_use) == []
    assert of_stack(data, models, *by_name) == [
        ("stores-are-closed", "models"),
        ("stores-are-encrypted", "models"),
    ]
    assert of_stack(data, *by_use[1:]) == [
        ("stores-are-closed", "data"),
        ("stores-are-encrypted", "data"),
    ]


def test_two_stores_without_known_names_need_two_blocks() -> None:
    stores = [Declared(urn=urn, token=BUCKET, properties={"bucket": UNKNOWN}) for urn in ("a", "b")]
    only_a = [beside(token, UNKNOWN, of="a") for token in (BLOCK, CIPHER)]

    assert {urn for _, urn in of_stack(*stores, *only_a)} == {"b"}


def test_protection_that_stops_a_destroy_is_refused() -> None:
    held = Declared(urn="x", token=SUBNET, properties={}, is_protected=True)

    assert of_stack(held) == [("no-protected", "x")]


def test_the_tables_name_types_of_the_sdk() -> None:
    sdk = Sdk("aws")
    tables = (
        *(aws.PUBLIC_STORE, aws.OPEN_PORT, aws.ENCRYPTION, aws.METADATA, aws.PUBLIC_ADDRESS),
        *(aws.RIGHTS, aws.UNDELETABLE, aws.SIZES),
        *(aws.TAGGED, aws.BUCKETS, aws.CLOSERS, aws.ENCRYPTERS),
    )

    for token in {token for table in tables for token in table}:
        assert sdk.resource(token).token == token


@pytest.mark.parametrize(
    ("token", "properties"),
    [*GOOD.items(), *((token, changed(token, changes)) for _, token, changes, _ in BAD)],
)
def test_examples_have_the_names_that_the_sdk_has(token: str, properties: Properties) -> None:
    problems = Sdk("aws").resource(token).inputs.problems(cast("wire.Properties", properties))

    # A document that is none is what one of the examples is about.
    assert [p for p in problems if "missing" not in p.reason and "JSON" not in p.reason] == []


def test_the_tags_are_the_kits() -> None:
    assert set(aws.TAGS) == {"Name", TAG_PROJECT, TAG_STACK, TAG_ID, TAG_ROLE}
    assert (aws.TAG_ROLE, aws.TAG_RETAIN) == (TAG_ROLE, TAG_RETAIN)


def test_all_that_the_kit_makes_and_that_takes_tags_is_asked_for_them() -> None:
    sdk = Sdk("aws")
    # Of the one object that a stack has, its bucket's tags tell.
    wanted = {
        token
        for token in map(token_of, declared_types())
        if "tags" in sdk.resource(token).inputs.hints
    } - {OBJECT}

    assert wanted <= aws.TAGGED
    assert all("tags" in sdk.resource(token).inputs.hints for token in aws.TAGGED)
