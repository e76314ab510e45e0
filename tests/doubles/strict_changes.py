"""What AWS's services change in the strict double when somebody asks them: mostly, deletes.

What others refer to stays, with the code by which its service says so. Unlike AWS, a volume stays
while it has snapshots, and a gateway takes its routes along. Not covered: that deleting takes time,
and that a group rents machines.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from infra.provider.wire import Value
from tests.doubles.strict_answers import instances_of
from tests.doubles.strict_ask import Answer, Ask, Refusal, Said
from tests.doubles.strict_cloud import CloudError, Stored

# Call, the parameter that names the thing, type, code where there is none, types that go with it.
_TABLE = """
acm.DeleteCertificate CertificateArn acm/certificate:Certificate
    ResourceNotFoundException acm/certificateValidation:CertificateValidation
budgets.DeleteBudget BudgetName budgets/budget:Budget NotFoundException
cloudwatch.DeleteAlarms AlarmNames cloudwatch/metricAlarm:MetricAlarm ResourceNotFound
ec2.DeleteInternetGateway InternetGatewayId ec2/internetGateway:InternetGateway
    InvalidInternetGatewayID.NotFound ec2/route:Route
ec2.DeleteLaunchTemplate LaunchTemplateId ec2/launchTemplate:LaunchTemplate
    InvalidLaunchTemplateId.NotFound
ec2.DeleteNatGateway NatGatewayId ec2/natGateway:NatGateway NatGatewayNotFound ec2/route:Route
ec2.DeleteNetworkInterface NetworkInterfaceId ec2/networkInterface:NetworkInterface
    InvalidNetworkInterfaceID.NotFound
ec2.DeletePlacementGroup GroupName ec2/placementGroup:PlacementGroup
    InvalidPlacementGroup.Unknown
ec2.DeleteRouteTable RouteTableId ec2/routeTable:RouteTable
    InvalidRouteTableID.NotFound ec2/route:Route
ec2.DeleteSnapshot SnapshotId ebs/snapshot:Snapshot InvalidSnapshot.NotFound
ec2.DeleteSubnet SubnetId ec2/subnet:Subnet
    InvalidSubnetID.NotFound ec2/routeTableAssociation:RouteTableAssociation
ec2.DeleteVolume VolumeId ebs/volume:Volume InvalidVolume.NotFound
ec2.DeleteVpc VpcId ec2/vpc:Vpc
    InvalidVpcID.NotFound ec2/defaultSecurityGroup:DefaultSecurityGroup
ec2.DisassociateRouteTable AssociationId ec2/routeTableAssociation:RouteTableAssociation
    InvalidAssociationID.NotFound
ec2.ReleaseAddress AllocationId ec2/eip:Eip InvalidAllocationID.NotFound
ec2.RevokeSecurityGroupEgress SecurityGroupRuleIds
    vpc/securityGroupEgressRule:SecurityGroupEgressRule InvalidSecurityGroupRuleId.NotFound
ec2.RevokeSecurityGroupIngress SecurityGroupRuleIds
    vpc/securityGroupIngressRule:SecurityGroupIngressRule InvalidSecurityGroupRuleId.NotFound
ec2.TerminateInstances InstanceIds ec2/instance:Instance InvalidInstanceID.NotFound
elbv2.DeleteLoadBalancer LoadBalancerArn lb/loadBalancer:LoadBalancer
    LoadBalancerNotFound lb/listener:Listener
elbv2.DeleteListener ListenerArn lb/listener:Listener ListenerNotFound
elbv2.DeleteTargetGroup TargetGroupArn lb/targetGroup:TargetGroup TargetGroupNotFound
iam.DeleteRole RoleName iam/role:Role NoSuchEntity
logs.DeleteLogGroup logGroupName cloudwatch/logGroup:LogGroup ResourceNotFoundException
secretsmanager.DeleteSecret SecretId secretsmanager/secret:Secret
    ResourceNotFoundException secretsmanager/secretVersion:SecretVersion
sns.DeleteTopic TopicArn sns/topic:Topic NotFound sns/topicSubscription:TopicSubscription
"""
# How each service says that something is in use.
USED = {
    "acm": "ResourceInUseException",
    "autoscaling": "ResourceInUse",
    "ec2": "DependencyViolation",
    "elbv2": "ResourceInUse",
    "iam": "DeleteConflict",
    "scheduler": "ConflictException",
}
# A balancer, a target group or a topic that is not there is deleted.
IDEMPOTENT = {"elbv2.DeleteLoadBalancer", "elbv2.DeleteTargetGroup", "sns.DeleteTopic"}
GROUP = "autoscaling/group:Group"
RULES = frozenset(
    f"aws:vpc/securityGroup{way}Rule:SecurityGroup{way}Rule" for way in ("Ingress", "Egress")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """A call that deletes the things it names."""

    parameter: str
    kind: str
    code: str
    parts: frozenset[str] = frozenset()

    def __call__(self, ask: Ask) -> Said:
        """All of them, or up to the first that is not there or in use."""
        for name in ask.texts(self.parameter):
            try:
                thing = ask.the(self.kind, name, self.code)
            except Refusal:
                if ask.call in IDEMPOTENT:
                    continue
                raise
            drop(ask, thing, self.parts)
        return {}


def drop(ask: Ask, thing: Stored, parts: frozenset[str] = frozenset()) -> None:
    """With what can't be without it; raises a Refusal while others refer to it."""
    try:
        ask.cloud.delete(thing, parts, is_forced=True)
    except CloudError as fault:
        words = str(fault).partition(": ")[2]
        raise Refusal(USED.get(ask.service, "ConflictException"), words) from fault


def _read_table() -> dict[str, Deletion]:
    deletions: dict[str, Deletion] = {}
    for line in _TABLE.strip().replace("\n    ", " ").splitlines():
        call, parameter, kind, code, *parts = line.split()
        types = frozenset(f"aws:{part}" for part in parts)
        deletions[call] = Deletion(parameter=parameter, kind=kind, code=code, parts=types)
    return deletions


def _put(ask: Ask, thing: Stored, **properties: Value) -> None:
    """As it is now; what was given as input is changed there too."""
    given = {key: value for key, value in properties.items() if key in thing.inputs}
    changed = replace(thing, inputs=thing.inputs | given, state=thing.state | properties)
    ask.cloud.write(changed, thing.revision)


def _set_capacity(ask: Ask) -> Said:
    name, size = ask.text("AutoScalingGroupName"), int(ask.text("DesiredCapacity"))
    group = ask.the(GROUP, name, "ValidationError")
    least, most = (int(str(group.state[key])) for key in ("minSize", "maxSize"))
    if not least <= size <= most:
        raise Refusal("ValidationError", f"{size} is not within {least} and {most} of {name}")
    _put(ask, group, desiredCapacity=size)
    return {}


def _delete_group(ask: Ask) -> Said:
    group = ask.the(GROUP, ask.text("AutoScalingGroupName"), "ValidationError")
    nodes = instances_of(ask, group)
    if nodes and ask.parameters.get("ForceDelete") is not True:
        raise Refusal("ResourceInUse", f"{group.name} has {len(nodes)} instances")
    for node in nodes:
        drop(ask, node)
    drop(ask, group, frozenset({"aws:autoscaling/schedule:Schedule"}))
    return {}


def _delete_security_group(ask: Ask) -> Said:
    """Its own rules go along, unless another group's speak of it."""
    group = ask.the("ec2/securityGroup:SecurityGroup", ask.text("GroupId"), "InvalidGroup.NotFound")
    rules = [rule for rule in ask.all("vpc/*") if group.id in map(str, rule.inputs.values())]
    is_alone = all(rule.inputs.get("securityGroupId") == group.id for rule in rules)
    drop(ask, group, RULES if is_alone else frozenset())
    return {}


def _delete_endpoints(ask: Ask) -> Said:
    """One that is not there is told beside the answer."""
    missing = []
    for endpoint_id in ask.texts("VpcEndpointIds"):
        try:
            drop(ask, ask.the("ec2/vpcEndpoint:VpcEndpoint", endpoint_id, ""))
        except Refusal as refusal:
            code = refusal.code or "InvalidVpcEndpointId.NotFound"
            error = {"Code": code, "Message": refusal.message}
            missing.append({"ResourceId": endpoint_id, "Error": error})
    return {"Unsuccessful": missing}


def _delete_route(ask: Ask) -> Said:
    table, to = ask.text("RouteTableId"), ask.text("DestinationCidrBlock")
    for route in ask.all("ec2/route:Route"):
        if (route.state["routeTableId"], route.state["destinationCidrBlock"]) == (table, to):
            drop(ask, route)
            return {}
    raise Refusal("InvalidRoute.NotFound", f"no route to {to} in {table}")


def _detach_gateway(ask: Ask) -> Said:
    kind, gateway_id = "ec2/internetGateway:InternetGateway", ask.text("InternetGatewayId")
    gateway = ask.the(kind, gateway_id, "InvalidInternetGatewayID.NotFound")
    if gateway.state.get("vpcId") != ask.text("VpcId"):
        raise Refusal("Gateway.NotAttached", f"{gateway.id} is not in {ask.text('VpcId')}")
    _put(ask, gateway, vpcId=None)
    return {}


def _profile(ask: Ask) -> Stored:
    name = ask.text("InstanceProfileName")
    return ask.the("iam/instanceProfile:InstanceProfile", name, "NoSuchEntity")


def _take_role(ask: Ask) -> Said:
    profile = _profile(ask)
    if profile.state.get("role") != ask.text("RoleName"):
        raise Refusal("NoSuchEntity", f"{profile.name} has no {ask.text('RoleName')}")
    _put(ask, profile, role=None)
    return {}


def _delete_profile(ask: Ask) -> Said:
    profile = _profile(ask)
    if profile.state.get("role"):
        raise Refusal("DeleteConflict", f"{profile.name} must lose its role first")
    drop(ask, profile)
    return {}


def _delete_policy(ask: Ask, kind: str, parameter: str, key: str) -> Said:
    """Of a role: one of its own, or one that is attached."""
    role, policy = ask.text("RoleName"), ask.text(parameter)
    for right in ask.all(kind):
        if (right.state.get("role"), right.state.get(key)) == (role, policy):
            drop(ask, right)
            return {}
    raise Refusal("NoSuchEntity", f"{role} has no {policy}")


def _delete_schedule(ask: Ask) -> Said:
    name = f"{ask.text('GroupName') or 'default'}/{ask.text('Name')}"
    drop(ask, ask.the("scheduler/schedule:Schedule", name, "ResourceNotFoundException"))
    return {}


def _delete_schedule_group(ask: Ask) -> Said:
    """With its schedules."""
    kind = "scheduler/scheduleGroup:ScheduleGroup"
    group = ask.the(kind, ask.text("Name"), "ResourceNotFoundException")
    for one in ask.all("scheduler/schedule:Schedule"):
        if one.state.get("groupName") == group.name:
            drop(ask, one)
    drop(ask, group)
    return {}


def _delete_key(ask: Ask) -> Said:
    """Not before its date."""
    key = ask.the("kms/key:Key", ask.text("KeyId"), "NotFoundException")
    if key.state.get("keyState") == "PendingDeletion":
        raise Refusal("KMSInvalidStateException", f"{key.id} is pending deletion")
    until = datetime.now(UTC) + timedelta(days=int(ask.text("PendingWindowInDays") or 30))
    _put(ask, key, keyState="PendingDeletion", deletionDate=until.isoformat(timespec="seconds"))
    return {"KeyId": key.id, "DeletionDate": until, "KeyState": "PendingDeletion"}


_OTHERS: Mapping[str, Callable[[Ask], Said]] = {
    "autoscaling.DeleteAutoScalingGroup": _delete_group,
    "autoscaling.SetDesiredCapacity": _set_capacity,
    "ec2.DeleteSecurityGroup": _delete_security_group,
    "ec2.DeleteVpcEndpoints": _delete_endpoints,
    "ec2.DeleteRoute": _delete_route,
    "ec2.DetachInternetGateway": _detach_gateway,
    "iam.DeleteInstanceProfile": _delete_profile,
    "iam.DeleteRolePolicy": partial(
        _delete_policy, kind="iam/rolePolicy:RolePolicy", parameter="PolicyName", key="name"
    ),
    "iam.DetachRolePolicy": partial(
        _delete_policy,
        kind="iam/rolePolicyAttachment:RolePolicyAttachment",
        parameter="PolicyArn",
        key="policyArn",
    ),
    "iam.RemoveRoleFromInstanceProfile": _take_role,
    "kms.ScheduleKeyDeletion": _delete_key,
    "scheduler.DeleteSchedule": _delete_schedule,
    "scheduler.DeleteScheduleGroup": _delete_schedule_group,
}
CHANGES: Mapping[str, Answer] = {**_read_table(), **_OTHERS}
