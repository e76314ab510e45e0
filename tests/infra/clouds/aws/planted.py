"""A stack in AWS as our rooms make it, by plain boto3: one of every kind of thing, or more.

Written out, not taken from our rooms: what these change, a sweep must still find.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import boto3  # type: ignore[import-untyped]
from botocore.client import BaseClient  # type: ignore[import-untyped]

from tests.infra.clouds.aws.interceptor import PlacementGroups, pairs

OURS = "a1b2c3d4e5f6"
REGION = "eu-central-1"
ACCOUNT = "123456789012"  # moto's
ZONE = "eu-central-1a"
IMAGE = "ami-12c6146b"  # one of moto's own
MACHINE = "t3.medium"
DISK_GIB = 100
TEN_USD = {"BudgetLimit": {"Amount": "10", "Unit": "USD"}}
TRUST = '{"Version": "2012-10-17", "Statement": []}'

Found = tuple[str, str]  # kind, id


@dataclass
class Stack:
    """A stack, and all that was planted of it."""

    session: boto3.Session
    id: str
    groups: PlacementGroups
    things: list[Found] = field(default_factory=list)
    network: dict[str, str] = field(default_factory=dict)
    _clients: dict[str, BaseClient] = field(default_factory=dict)

    def client(self, service: str) -> BaseClient:
        """A client of the stack's region."""
        if service not in self._clients:
            self._clients[service] = self.session.client(service, region_name=REGION)
        return self._clients[service]

    def name(self, part: str = "") -> str:
        """As `rented_name`, written out."""
        return f"atoll-{self.id}-{part}" if part else f"atoll-{self.id}"

    def tags(self, part: str, **more: str) -> dict[str, str]:
        """As `Place.tags`."""
        return {
            "Name": self.name(part),
            "atoll:project": "atoll",
            "atoll:stack": "aws",
            "atoll:stack-id": self.id,
            "atoll:role": part,
            **more,
        }

    def content(self) -> list[str]:
        """Keys of all versions of what its stores hold."""
        s3 = self.client("s3")
        buckets = [one["Name"] for one in s3.list_buckets()["Buckets"]]
        told = [
            s3.list_object_versions(Bucket=name) for name in buckets if name.startswith(self.name())
        ]
        return [
            version["Key"]
            for one in told
            for version in (*one.get("Versions", ()), *one.get("DeleteMarkers", ()))
        ]

    def put(self, kind: str, *ids: str) -> None:
        """Remember that these were made."""
        self.things += [(kind, one) for one in ids]


def plant(stack: Stack) -> None:
    """All kinds of things of one stack; interfaces as moto has made them beside."""
    plant_network(stack)
    plant_balancer(stack)
    plant_pool(stack)
    plant_disks(stack)
    plant_identity(stack)
    plant_timer(stack)
    plant_stores(stack)
    plant_others(stack)
    stack.groups.tags[stack.name("training")] = stack.tags("training")
    stack.put("placement-group", stack.name("training"))
    stack.put("network-interface", *interfaces(stack))


def plant_network(stack: Stack) -> None:
    """Network, two subnets, ways out, groups that name each other."""
    ec2 = stack.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16", TagSpecifications=_told("vpc", stack))["Vpc"][
        "VpcId"
    ]
    default = ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [vpc]}])
    ec2.create_tags(
        Resources=[default["SecurityGroups"][0]["GroupId"]], Tags=pairs(stack.tags("network"))
    )
    subnets = [
        ec2.create_subnet(
            VpcId=vpc,
            CidrBlock=addresses,
            AvailabilityZone=zone,
            TagSpecifications=_told("subnet", stack),
        )["Subnet"]["SubnetId"]
        for addresses, zone in (("10.0.0.0/24", ZONE), ("10.0.16.0/20", "eu-central-1b"))
    ]
    internet = ec2.create_internet_gateway(TagSpecifications=_told("internet-gateway", stack))[
        "InternetGateway"
    ]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=internet, VpcId=vpc)
    table = ec2.create_route_table(VpcId=vpc, TagSpecifications=_told("route-table", stack))[
        "RouteTable"
    ]["RouteTableId"]
    ec2.associate_route_table(RouteTableId=table, SubnetId=subnets[0])
    stack.network = {"vpc": vpc, "front": subnets[0], "back": subnets[1], "table": table}
    stack.put("vpc", vpc)
    stack.put("subnet", *subnets)
    stack.put("internet-gateway", internet)
    stack.put("route-table", table)
    stack.put("security-group", *_groups(stack, vpc))
    _ways_out(stack)
    # As a function of somebody leaves one: without a tag, in the stack's network.
    ec2.create_network_interface(SubnetId=subnets[1])


def _told(kind: str, stack: Stack) -> list[dict[str, object]]:
    return [{"ResourceType": kind, "Tags": pairs(stack.tags("network"))}]


def _ways_out(stack: Stack) -> None:
    ec2 = stack.client("ec2")
    address = ec2.allocate_address(Domain="vpc", TagSpecifications=_told("elastic-ip", stack))
    gateway = ec2.create_nat_gateway(
        AllocationId=address["AllocationId"],
        SubnetId=stack.network["front"],
        TagSpecifications=_told("natgateway", stack),
    )["NatGateway"]["NatGatewayId"]
    endpoints = [
        ec2.create_vpc_endpoint(
            VpcId=stack.network["vpc"],
            ServiceName=f"com.amazonaws.{REGION}.{service}",
            TagSpecifications=_told("vpc-endpoint", stack),
            **more,
        )["VpcEndpoint"]["VpcEndpointId"]
        for service, more in {
            "s3": {"VpcEndpointType": "Gateway", "RouteTableIds": [stack.network["table"]]},
            "ssm": {
                "VpcEndpointType": "Interface",
                "SubnetIds": [stack.network["front"], stack.network["back"]],
            },
        }.items()
    ]
    stack.put("address", address["AllocationId"])
    stack.put("nat-gateway", gateway)
    stack.put("vpc-endpoint", *endpoints)


def _groups(stack: Stack, vpc: str) -> Iterator[str]:
    ec2 = stack.client("ec2")
    ids = {
        part: ec2.create_security_group(
            GroupName=stack.name(part),
            Description=part,
            VpcId=vpc,
            TagSpecifications=[{"ResourceType": "security-group", "Tags": pairs(stack.tags(part))}],
        )["GroupId"]
        for part in ("balancer", "gateway")
    }
    for part, other in (("balancer", "gateway"), ("gateway", "balancer")):
        rule = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": ids[other]}]}
        ec2.authorize_security_group_ingress(GroupId=ids[part], IpPermissions=[rule])
    stack.network |= ids
    yield from ids.values()


def plant_balancer(stack: Stack) -> None:
    """Balancer, listener, target group and certificate."""
    elb, subnets = stack.client("elbv2"), [stack.network["front"], stack.network["back"]]
    balancer = elb.create_load_balancer(
        Name=stack.name(),
        Subnets=subnets,
        SecurityGroups=[stack.network["balancer"]],
        Tags=pairs(stack.tags("balancer")),
    )["LoadBalancers"][0]
    target = elb.create_target_group(
        Name=stack.name("gateway"),
        Protocol="HTTP",
        Port=8080,
        VpcId=stack.network["vpc"],
        Tags=pairs(stack.tags("gateway")),
    )["TargetGroups"][0]
    elb.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"],
        Protocol="HTTP",
        Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": target["TargetGroupArn"]}],
        Tags=pairs(stack.tags("balancer")),
    )
    certificate = stack.client("acm").request_certificate(
        DomainName=f"{stack.id}.example.org",
        ValidationMethod="DNS",
        Tags=pairs(stack.tags("balancer")),
    )["CertificateArn"]
    stack.put("balancer", stack.name())
    stack.put("target-group", stack.name("gateway"))
    stack.put("certificate", certificate.rpartition("/")[2])


def plant_pool(stack: Stack) -> None:
    """A template, a group with one node, and a node that no group has."""
    ec2, groups = stack.client("ec2"), stack.client("autoscaling")
    template = ec2.create_launch_template(
        LaunchTemplateName=stack.name("training"),
        LaunchTemplateData={"ImageId": IMAGE, "InstanceType": MACHINE},
        TagSpecifications=[
            {"ResourceType": "launch-template", "Tags": pairs(stack.tags("training"))}
        ],
    )["LaunchTemplate"]["LaunchTemplateId"]
    groups.create_auto_scaling_group(
        AutoScalingGroupName=stack.name("training"),
        MinSize=0,
        MaxSize=2,
        DesiredCapacity=1,
        LaunchTemplate={"LaunchTemplateId": template},
        VPCZoneIdentifier=stack.network["back"],
        Tags=[{**pair, "PropagateAtLaunch": True} for pair in pairs(stack.tags("training"))],
    )
    alone = ec2.run_instances(
        ImageId=IMAGE,
        InstanceType=MACHINE,
        MinCount=1,
        MaxCount=1,
        SubnetId=stack.network["back"],
        TagSpecifications=[{"ResourceType": "instance", "Tags": pairs(stack.tags("training"))}],
    )["Instances"][0]["InstanceId"]
    made = groups.describe_auto_scaling_groups(AutoScalingGroupNames=[stack.name("training")])
    [node] = made["AutoScalingGroups"][0]["Instances"]
    stack.put("launch-template", template)
    stack.put("autoscaling-group", stack.name("training"))
    stack.put("instance", alone, node["InstanceId"])


def plant_disks(stack: Stack) -> None:
    """A disk that outlived its node, and a copy of it."""
    ec2 = stack.client("ec2")
    tags = pairs(stack.tags("training"))
    volume = ec2.create_volume(
        AvailabilityZone=ZONE,
        Size=DISK_GIB,
        VolumeType="gp3",
        TagSpecifications=[{"ResourceType": "volume", "Tags": tags}],
    )["VolumeId"]
    snapshot = ec2.create_snapshot(
        VolumeId=volume, TagSpecifications=[{"ResourceType": "snapshot", "Tags": tags}]
    )["SnapshotId"]
    stack.put("volume", volume)
    stack.put("snapshot", snapshot)


def plant_identity(stack: Stack) -> None:
    """A role with a policy of its own and one of AWS, in a profile."""
    iam, name, path = stack.client("iam"), stack.name("training"), f"/atoll/{stack.id}/"
    tags = pairs(stack.tags("training"))
    iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=TRUST, Tags=tags)
    iam.put_role_policy(
        RoleName=name,
        PolicyName=name,
        PolicyDocument='{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", '
        '"Action": "s3:ListBucket", "Resource": "*"}]}',
    )
    policy = iam.create_policy(
        PolicyName=f"strange-{stack.id}",
        PolicyDocument='{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", '
        '"Action": "ssm:UpdateInstanceInformation", "Resource": "*"}]}',
    )["Policy"]["Arn"]
    iam.attach_role_policy(RoleName=name, PolicyArn=policy)
    iam.create_instance_profile(InstanceProfileName=name, Path=path, Tags=tags)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    stack.put("role", name)
    stack.put("instance-profile", name)


def plant_timer(stack: Stack) -> None:
    """A group of two schedules."""
    timer = stack.client("scheduler")
    timer.create_schedule_group(Name=stack.name(), Tags=pairs(stack.tags("timer")))
    for part in ("grow", "shrink"):
        timer.create_schedule(
            Name=stack.name(part),
            GroupName=stack.name(),
            ScheduleExpression="cron(0 3 ? * MON *)",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target={
                "Arn": "arn:aws:scheduler:::aws-sdk:autoscaling:setDesiredCapacity",
                "RoleArn": "arn:aws:iam::123456789012:role/timer",
            },
        )
        stack.put("schedule", stack.name(part))
    stack.put("schedule-group", stack.name())


def plant_stores(stack: Stack, **more: str) -> None:
    """A bucket with versions, one of them a deletion, and one that was made and not yet tagged."""
    s3 = stack.client("s3")
    for part in ("data", "control"):
        s3.create_bucket(
            Bucket=stack.name(part), CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        stack.put("bucket", stack.name(part))
    name = stack.name("data")
    s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": pairs(stack.tags("data", **more))})
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"old", b"new"):
        s3.put_object(Bucket=name, Key="object", Body=body)
    s3.delete_object(Bucket=name, Key="object")
    s3.put_object(Bucket=stack.name("control"), Key="beat", Body=b"1")


def plant_others(stack: Stack) -> None:
    """Logs, an alarm with its topic, a secret, a key and a budget."""
    logs = stack.client("logs")
    logs.create_log_group(logGroupName=f"/atoll/{stack.id}/training", tags=stack.tags("training"))
    plant_alarm(stack)
    stack.client("secretsmanager").create_secret(
        Name=stack.name("key"), SecretString="of tests", Tags=pairs(stack.tags("gateway"))
    )
    stack.client("budgets").create_budget(
        AccountId=ACCOUNT,
        Budget={
            "BudgetName": stack.name("budget"),
            "BudgetType": "COST",
            "TimeUnit": "MONTHLY",
            **TEN_USD,
        },
    )
    stack.put("log-group", f"/atoll/{stack.id}/training")
    stack.put("secret", stack.name("key"))
    stack.put("key", plant_key(stack))
    stack.put("budget", stack.name("budget"))


def plant_alarm(stack: Stack) -> None:
    """One that speaks to a topic, which somebody listens to."""
    tags = pairs(stack.tags("alerts"))
    topics, name = stack.client("sns"), stack.name("alerts")
    topic = topics.create_topic(Name=name, Tags=tags)["TopicArn"]
    topics.subscribe(TopicArn=topic, Protocol="email", Endpoint="ops@example.org")
    stack.client("cloudwatch").put_metric_alarm(
        AlarmName=stack.name("no-gateway"),
        Namespace="AWS/ApplicationELB",
        MetricName="HealthyHostCount",
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=5,
        Threshold=1,
        ComparisonOperator="LessThanThreshold",
        AlarmActions=[topic],
        Tags=tags,
    )
    stack.put("alarm", stack.name("no-gateway"))
    stack.put("topic", name)


def plant_key(stack: Stack) -> str:
    """A key; its id."""
    tags = [{"TagKey": key, "TagValue": value} for key, value in stack.tags("data").items()]
    key: str = stack.client("kms").create_key(Tags=tags)["KeyMetadata"]["KeyId"]
    return key


def interfaces(stack: Stack) -> list[str]:
    """Those in the stack's network, whoever made them."""
    found = stack.client("ec2").describe_network_interfaces(
        Filters=[{"Name": "vpc-id", "Values": [stack.network["vpc"]]}]
    )
    return [one["NetworkInterfaceId"] for one in found["NetworkInterfaces"]]
