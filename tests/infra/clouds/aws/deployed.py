"""A stack in the strict double of AWS as the engine makes it: all types of our rooms, and more.

Written out, not taken from our rooms: what these change, a sweep must still find.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pulumi.runtime.proto import provider_pb2 as pb
from pulumi.runtime.proto.provider_pb2_grpc import ResourceProviderStub

from infra.provider.wire import Properties, Value, read, write
from tests.doubles.strict_cloud import StrictCloud
from tests.infra.clouds.aws.planted import REGION, TRUST, Found
from tests.infra.clouds.provider_under_test import create, delete, urn

ZONE = f"{REGION}a"
DOMAIN = "atoll.example.org"
# What a sweep calls them. The other types go with what they are part of, or are never found.
KINDS: Mapping[str, str] = {
    "acm/certificate:Certificate": "certificate",
    "autoscaling/group:Group": "autoscaling-group",
    "budgets/budget:Budget": "budget",
    "cloudwatch/logGroup:LogGroup": "log-group",
    "cloudwatch/metricAlarm:MetricAlarm": "alarm",
    "ebs/snapshot:Snapshot": "snapshot",
    "ebs/volume:Volume": "volume",
    "ec2/eip:Eip": "address",
    "ec2/instance:Instance": "instance",
    "ec2/internetGateway:InternetGateway": "internet-gateway",
    "ec2/launchTemplate:LaunchTemplate": "launch-template",
    "ec2/natGateway:NatGateway": "nat-gateway",
    "ec2/networkInterface:NetworkInterface": "network-interface",
    "ec2/placementGroup:PlacementGroup": "placement-group",
    "ec2/routeTable:RouteTable": "route-table",
    "ec2/securityGroup:SecurityGroup": "security-group",
    "ec2/subnet:Subnet": "subnet",
    "ec2/vpc:Vpc": "vpc",
    "ec2/vpcEndpoint:VpcEndpoint": "vpc-endpoint",
    "iam/instanceProfile:InstanceProfile": "instance-profile",
    "iam/role:Role": "role",
    "kms/key:Key": "key",
    "lb/loadBalancer:LoadBalancer": "balancer",
    "lb/targetGroup:TargetGroup": "target-group",
    "s3/bucket:Bucket": "bucket",
    "scheduler/schedule:Schedule": "schedule",
    "scheduler/scheduleGroup:ScheduleGroup": "schedule-group",
    "secretsmanager/secret:Secret": "secret",
    "sns/topic:Topic": "topic",
}
CALLED = {"balancer", "budget", "schedule", "secret", "target-group", "topic"}  # by name, not by id


@dataclass
class Stack:
    """A stack, and all that was made of it."""

    provider: ResourceProviderStub
    cloud: StrictCloud
    id: str
    things: list[Found] = field(default_factory=list)
    made: list[tuple[str, str]] = field(default_factory=list)  # types and ids

    def name(self, part: str = "") -> str:
        """As `rented_name`, written out."""
        return f"atoll-{self.id}-{part}" if part else f"atoll-{self.id}"

    def tags(self, part: str) -> dict[str, Value]:
        """As `Place.tags`, those that matter."""
        return {"Name": self.name(part), "atoll:stack-id": self.id, "atoll:role": part}

    def make(self, kind: str, /, **inputs: Value) -> Properties:
        """Check and make one; its state, with its id."""
        token = f"aws:{kind}"
        checked = self.provider.Check(
            pb.CheckRequest(urn=urn(token), news=write(inputs), randomSeed=b"seed")
        )
        assert not checked.failures, checked.failures
        resource_id, state = create(self.provider, token, **read(checked.inputs))
        self.made.append((token, resource_id))
        if kind in KINDS:
            self.things.append((KINDS[kind], _called(KINDS[kind], resource_id, state)))
        return {**state, "id": resource_id}

    def destroy(self) -> None:
        """As the engine does: the last first."""
        for token, resource_id in reversed(self.made):
            delete(self.provider, token, resource_id)


def _called(kind: str, resource_id: str, state: Properties) -> str:
    if kind == "certificate":
        return resource_id.rpartition("/")[2]
    return str(state["name"]) if kind in CALLED else resource_id


def deploy(stack: Stack) -> dict[str, Value]:
    """All types of our rooms; ids of its network."""
    network = make_network(stack)
    make_stores(stack)
    balancer = make_balancer(stack, network)
    make_pool(stack, network)
    make_timer(stack)
    make_watch(stack, balancer)
    return network


def make_network(stack: Stack) -> dict[str, Value]:
    """Subnets, ways out, and groups that name each other; ids of what others need."""
    tags = stack.tags("network")
    vpc = stack.make("ec2/vpc:Vpc", cidrBlock="10.0.0.0/16", tags=tags)["id"]
    stack.make("ec2/defaultSecurityGroup:DefaultSecurityGroup", vpcId=vpc, tags=tags)
    internet = stack.make("ec2/internetGateway:InternetGateway", vpcId=vpc, tags=tags)["id"]
    tables, subnets = [], []
    for addresses in ("10.0.0.0/24", "10.0.16.0/20"):
        table = stack.make("ec2/routeTable:RouteTable", vpcId=vpc, tags=tags)["id"]
        subnet = stack.make(
            "ec2/subnet:Subnet",
            vpcId=vpc,
            availabilityZone=ZONE,
            cidrBlock=addresses,
            tags=tags,
        )["id"]
        stack.make(
            "ec2/routeTableAssociation:RouteTableAssociation",
            subnetId=subnet,
            routeTableId=table,
        )
        tables.append(table)
        subnets.append(subnet)
    _ways_out(stack, vpc, internet, subnets[0], tables)
    groups = _groups(stack, vpc)
    return {"vpc": vpc, "subnets": list(subnets), "back": subnets[1], **groups}


def _ways_out(stack: Stack, vpc: Value, internet: Value, front: Value, tables: list[Value]) -> None:
    tags = stack.tags("network")
    everywhere: Properties = {"destinationCidrBlock": "0.0.0.0/0"}
    stack.make("ec2/route:Route", routeTableId=tables[0], gatewayId=internet, **everywhere)
    address = stack.make("ec2/eip:Eip", domain="vpc", tags=tags)["allocationId"]
    gateway = stack.make(
        "ec2/natGateway:NatGateway", allocationId=address, subnetId=front, tags=tags
    )["id"]
    stack.make("ec2/route:Route", routeTableId=tables[1], natGatewayId=gateway, **everywhere)
    stack.make(
        "ec2/vpcEndpoint:VpcEndpoint",
        vpcId=vpc,
        serviceName=f"com.amazonaws.{REGION}.s3",
        vpcEndpointType="Gateway",
        routeTableIds=[tables[1]],
        tags=tags,
    )


def _groups(stack: Stack, vpc: Value) -> dict[str, Value]:
    ids: dict[str, Value] = {}
    for part in ("balancer", "gateway"):
        ids[part] = stack.make(
            "ec2/securityGroup:SecurityGroup",
            name=stack.name(part),
            description=part,
            vpcId=vpc,
            tags=stack.tags(part),
        )["id"]
    for way, of, to in (("Ingress", "gateway", "balancer"), ("Egress", "balancer", "gateway")):
        stack.make(
            f"vpc/securityGroup{way}Rule:SecurityGroup{way}Rule",
            securityGroupId=ids[of],
            referencedSecurityGroupId=ids[to],
            ipProtocol="-1",
            tags=stack.tags(of),
        )
    return ids


def make_stores(stack: Stack) -> None:
    """A bucket with all that sets it up, and the bundle."""
    for part in ("control", "bundle"):
        bucket = stack.name(part)
        stack.make("s3/bucket:Bucket", bucket=bucket, forceDestroy=True, tags=stack.tags(part))
        stack.make("s3/bucketPublicAccessBlock:BucketPublicAccessBlock", bucket=bucket)
        stack.make(
            "s3/bucketOwnershipControls:BucketOwnershipControls",
            bucket=bucket,
            rule={"objectOwnership": "BucketOwnerEnforced"},
        )
        stack.make(
            "s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
            bucket=bucket,
            rules=[{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "AES256"}}],
        )
        stack.make(
            "s3/bucketVersioning:BucketVersioning",
            bucket=bucket,
            versioningConfiguration={"status": "Enabled"},
        )
        stack.make(
            "s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
            bucket=bucket,
            rules=[{"id": "left-over", "status": "Enabled", "filter": {"prefix": ""}}],
        )
        stack.make("s3/bucketPolicy:BucketPolicy", bucket=bucket, policy=TRUST)
    stack.make(
        "s3/bucketObjectv2:BucketObjectv2", bucket=stack.name("bundle"), key="b", content="runtime"
    )


def make_balancer(stack: Stack, network: Properties) -> Value:
    """Balancer, target group and listener, with a certificate and its records; how it is called."""
    tags = stack.tags("balancer")
    balancer = stack.make(
        "lb/loadBalancer:LoadBalancer",
        name=stack.name(),
        loadBalancerType="application",
        securityGroups=[network["balancer"]],
        subnets=network["subnets"],
        tags=tags,
    )
    target = stack.make(
        "lb/targetGroup:TargetGroup",
        name=stack.name("gateway"),
        port=8080,
        protocol="HTTP",
        vpcId=network["vpc"],
        tags=stack.tags("gateway"),
    )["arn"]
    certificate = stack.make(
        "acm/certificate:Certificate", domainName=DOMAIN, validationMethod="DNS", tags=tags
    )["arn"]
    for record in (f"_proof-{stack.id}.{DOMAIN}", f"{stack.id}.{DOMAIN}"):
        stack.make(
            "route53/record:Record", zoneId="Z1", name=record, type="CNAME", ttl=60, records=["a"]
        )
    stack.make(
        "acm/certificateValidation:CertificateValidation",
        certificateArn=certificate,
        validationRecordFqdns=[f"_proof-{stack.id}.{DOMAIN}"],
    )
    stack.make(
        "lb/listener:Listener",
        loadBalancerArn=balancer["arn"],
        port=443,
        protocol="HTTPS",
        certificateArn=certificate,
        defaultActions=[{"type": "forward", "targetGroupArn": target}],
        tags=tags,
    )
    return balancer["arnSuffix"]


def make_role(stack: Stack, part: str) -> Value:
    """A role with its rights; its ARN."""
    name = stack.name(part)
    role = stack.make(
        "iam/role:Role",
        name=name,
        path=f"/atoll/{stack.id}/",
        assumeRolePolicy=TRUST,
        tags=stack.tags(part),
    )
    stack.make("iam/rolePolicy:RolePolicy", name=name, role=name, policy=TRUST)
    return role["arn"]


def make_pool(stack: Stack, network: Properties) -> None:
    """A training pool: role, profile, template, placement group, and a group of size 0."""
    name, tags = stack.name("training"), stack.tags("training")
    make_role(stack, "training")
    stack.make(
        "iam/rolePolicyAttachment:RolePolicyAttachment",
        role=name,
        policyArn="arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore",
    )
    profile = stack.make(
        "iam/instanceProfile:InstanceProfile",
        name=name,
        path=f"/atoll/{stack.id}/",
        role=name,
        tags=tags,
    )["arn"]
    template = stack.make(
        "ec2/launchTemplate:LaunchTemplate",
        name=name,
        iamInstanceProfile={"arn": profile},
        vpcSecurityGroupIds=[network["gateway"]],
        tags=tags,
    )["id"]
    near = stack.make(
        "ec2/placementGroup:PlacementGroup", name=name, strategy="cluster", tags=tags
    )["name"]
    stack.make(
        "autoscaling/group:Group",
        name=name,
        minSize=0,
        maxSize=2,
        vpcZoneIdentifiers=[network["back"]],
        launchTemplate={"id": template, "version": "1"},
        placementGroup=near,
        tags=[
            {"key": key, "value": value, "propagateAtLaunch": True} for key, value in tags.items()
        ],
    )


def make_timer(stack: Stack) -> None:
    """A group of two schedules."""
    name = stack.name()
    role = make_role(stack, "timer")
    stack.make("scheduler/scheduleGroup:ScheduleGroup", name=name, tags=stack.tags("timer"))
    for part in ("grow", "shrink"):
        stack.make(
            "scheduler/schedule:Schedule",
            name=stack.name(part),
            groupName=name,
            scheduleExpression="cron(0 3 ? * MON *)",
            flexibleTimeWindow={"mode": "OFF"},
            target={
                "arn": "arn:aws:scheduler:::aws-sdk:autoscaling:setDesiredCapacity",
                "roleArn": role,
            },
        )


def make_watch(stack: Stack, balancer: Value) -> None:
    """Logs, an alarm that somebody hears of, and a budget."""
    stack.make("cloudwatch/logGroup:LogGroup", name=f"/atoll/{stack.id}", tags=stack.tags("logs"))
    topic = stack.make("sns/topic:Topic", name=stack.name("alerts"), tags=stack.tags("alerts"))
    stack.make(
        "sns/topicSubscription:TopicSubscription",
        topic=topic["arn"],
        protocol="email",
        endpoint="ops@example.org",
    )
    stack.make(
        "cloudwatch/metricAlarm:MetricAlarm",
        name=stack.name("errors"),
        comparisonOperator="GreaterThanOrEqualToThreshold",
        evaluationPeriods=1,
        dimensions={"LoadBalancer": balancer},
        alarmActions=[topic["arn"]],
        tags=stack.tags("alarm"),
    )
    stack.make(
        "budgets/budget:Budget",
        name=stack.name("budget"),
        budgetType="COST",
        timeUnit="MONTHLY",
        tags=stack.tags("budget"),
    )


def make_others(stack: Stack, subnet: Value) -> None:
    """What our rooms don't make, but nodes, people and other versions of ours may have left."""
    tags = stack.tags("training")
    node: dict[str, Value] = {**tags, "aws:autoscaling:groupName": stack.name("training")}
    stack.make("ec2/instance:Instance", instanceType="t3.medium", subnetId=subnet, tags=node)
    stack.make("ec2/networkInterface:NetworkInterface", subnetId=subnet, tags=tags)
    volume = stack.make("ebs/volume:Volume", availabilityZone=ZONE, size=9, type="gp3", tags=tags)
    stack.make("ebs/snapshot:Snapshot", volumeId=volume["id"], tags=tags)
    stack.make("cloudwatch/logGroup:LogGroup", name=f"/atoll/{stack.id}/training", tags=tags)
    secret = stack.make("secretsmanager/secret:Secret", name=stack.name("key"), tags=tags)["arn"]
    stack.make(
        "secretsmanager/secretVersion:SecretVersion", secretId=secret, secretString="of tests"
    )
    stack.make("kms/key:Key", tags=tags)
    stack.make("budgets/budget:Budget", name=stack.name("b"), budgetType="COST", timeUnit="MONTHLY")
