"""Where AWS lists what a stack may have, and how each list is cut into rows.

EC2 and Auto Scaling list by tag, at once and truly: what they don't list is gone. What goes with
its owner is left out: the default group and main route table of a network, rules, listeners.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """One list of one kind of thing."""

    kind: str
    service: str
    operation: str
    cut: str  # JMESPath: an answer into rows
    filters: str = "Filters"  # the parameter that takes a filter by tag
    others: Mapping[str, object] = field(default_factory=dict)


def _ec2(kind: str, operation: str, cut: str, filters: str = "Filters") -> Listing:
    return Listing(kind=kind, service="ec2", operation=operation, cut=cut, filters=filters)


INTERFACES = _ec2(
    "network-interface",
    "describe_network_interfaces",
    # An address of AWS's own, as a balancer's: one that is ours is an address, and paid as that.
    """NetworkInterfaces[].{
        id: NetworkInterfaceId, name: Description, tags: TagSet, state: Status, holder: VpcId,
        type: Association.PublicIp && !Association.AllocationId && 'public' || 'private'
    }""",
)
BY_TAG = (
    Listing(
        kind="autoscaling-group",
        service="autoscaling",
        operation="describe_auto_scaling_groups",
        cut="""AutoScalingGroups[].{
            id: AutoScalingGroupName, arn: AutoScalingGroupARN, tags: Tags, state: Status
        }""",
    ),
    _ec2(
        "instance",
        "describe_instances",
        """Reservations[].Instances[].{
            id: InstanceId, tags: Tags, state: State.Name,
            type: join('', [InstanceType, InstanceLifecycle == 'spot' && '/spot' || ''])
        }""",
    ),
    _ec2(
        "nat-gateway",
        "describe_nat_gateways",
        "NatGateways[].{id: NatGatewayId, tags: Tags, state: State}",
        filters="Filter",
    ),
    _ec2(
        "vpc-endpoint",
        "describe_vpc_endpoints",
        """VpcEndpoints[].{
            id: VpcEndpointId, name: ServiceName, tags: Tags, state: State, type: VpcEndpointType,
            count: length(SubnetIds || `[]`)
        }""",
    ),
    INTERFACES,
    _ec2(
        "volume",
        "describe_volumes",
        "Volumes[].{id: VolumeId, tags: Tags, state: State, type: VolumeType, count: Size}",
    ),
    Listing(
        kind="snapshot",
        service="ec2",
        operation="describe_snapshots",
        cut="Snapshots[].{id: SnapshotId, tags: Tags}",
        others={"OwnerIds": ["self"]},
    ),
    _ec2("address", "describe_addresses", "Addresses[].{id: AllocationId, tags: Tags}"),
    _ec2(
        "launch-template",
        "describe_launch_templates",
        "LaunchTemplates[].{id: LaunchTemplateId, name: LaunchTemplateName, tags: Tags}",
    ),
    _ec2(
        "placement-group",
        "describe_placement_groups",
        "PlacementGroups[].{id: GroupName, tags: Tags, state: State}",
    ),
    _ec2(
        "security-group",
        "describe_security_groups",
        "SecurityGroups[?GroupName != 'default'].{id: GroupId, name: GroupName, tags: Tags}",
    ),
    _ec2("subnet", "describe_subnets", "Subnets[].{id: SubnetId, tags: Tags}"),
    _ec2(
        "route-table",
        "describe_route_tables",
        "RouteTables[?!(Associations[?Main])].{id: RouteTableId, tags: Tags}",
    ),
    _ec2(
        "internet-gateway",
        "describe_internet_gateways",
        "InternetGateways[].{id: InternetGatewayId, tags: Tags}",
    ),
    _ec2("vpc", "describe_vpcs", "Vpcs[].{id: VpcId, tags: Tags}"),
)
# Of these the tagging API may know one that their names did not tell; its own word is asked.
BALANCERS = Listing(
    kind="balancer",
    service="elbv2",
    operation="describe_load_balancers",
    cut="LoadBalancers[].{id: LoadBalancerName, arn: LoadBalancerArn, type: Type}",
)
TARGET_GROUPS = Listing(
    kind="target-group",
    service="elbv2",
    operation="describe_target_groups",
    cut="TargetGroups[].{id: TargetGroupName, arn: TargetGroupArn}",
)
ALARMS = Listing(
    kind="alarm",
    service="cloudwatch",
    operation="describe_alarms",
    cut="MetricAlarms[].{id: AlarmName, arn: AlarmArn}",
    filters="AlarmNamePrefix",
)
# Told by their ARNs alone, all of the region.
TOPICS = Listing(
    kind="topic",
    service="sns",
    operation="list_topics",
    cut="Topics[].{id: TopicArn, arn: TopicArn}",
)
# How a name of the tagging API begins: service and kind of thing, but for buckets and topics.
KINDS: Mapping[str, str] = {
    "autoscaling:autoScalingGroup": "autoscaling-group",
    "acm:certificate": "certificate",
    "budgets:budget": "budget",
    "cloudwatch:alarm": "alarm",
    "ec2:elastic-ip": "address",
    "ec2:natgateway": "nat-gateway",
    "elasticloadbalancing:loadbalancer": "balancer",
    "elasticloadbalancing:targetgroup": "target-group",
    "iam:instance-profile": "instance-profile",
    "iam:role": "role",
    "kms:key": "key",
    "logs:log-group": "log-group",
    "s3:": "bucket",
    "scheduler:schedule-group": "schedule-group",
    "secretsmanager:secret": "secret",
    "sns:": "topic",
    **{
        f"ec2:{kind}": kind
        for kind in (
            *("instance", "internet-gateway", "launch-template", "network-interface"),
            *("placement-group", "route-table", "security-group", "snapshot", "subnet"),
            *("volume", "vpc", "vpc-endpoint"),
        )
    },
}
# They can't be without what holds them, which is listed.
PARTS = {
    "ec2:security-group-rule",
    "elasticloadbalancing:listener",
    "elasticloadbalancing:listener-rule",
}
# Asked by a path or a beginning of the name: of one elsewhere these lists say nothing.
BY_NAME = {"alarm", "budget", "role", "instance-profile", "log-group", "schedule-group"}
