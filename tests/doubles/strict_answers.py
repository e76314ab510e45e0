"""What AWS's lists say of the resources in the strict double.

Not covered: what AWS makes by itself (a network's default group and main route table, interfaces
of balancers and gateways, machines of a group), and that it goes on telling of what is gone.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from tests.doubles.strict_ask import Answer, Ask, Refusal, Said, pairs, tags_of
from tests.doubles.strict_cloud import Stored
from tests.doubles.strict_provider import ACCOUNT

# Call, what its list is called, types; indented, fields: with a dot from the state, else as is.
_TABLE = """
acm.DescribeCertificate Certificate acm/certificate:Certificate
    CertificateArn=.arn DomainName=.domainName Status=.status
autoscaling.DescribeAutoScalingGroups AutoScalingGroups autoscaling/group:Group
    AutoScalingGroupName=.name AutoScalingGroupARN=.arn MinSize=.minSize MaxSize=.maxSize
    DesiredCapacity=.desiredCapacity Tags=.pairs
budgets.DescribeBudgets Budgets budgets/budget:Budget
    BudgetName=.name BudgetType=.budgetType TimeUnit=.timeUnit
cloudwatch.DescribeAlarms MetricAlarms cloudwatch/metricAlarm:MetricAlarm
    AlarmName=.name AlarmArn=.arn MetricName=.metricName StateValue=OK
ec2.DescribeAddresses Addresses ec2/eip:Eip
    AllocationId=.id PublicIp=.publicIp Domain=.domain Tags=.pairs
ec2.DescribeInstances Instances ec2/instance:Instance
    InstanceId=.id InstanceType=.instanceType SubnetId=.subnetId Tags=.pairs
ec2.DescribeInternetGateways InternetGateways ec2/internetGateway:InternetGateway
    InternetGatewayId=.id Tags=.pairs
ec2.DescribeLaunchTemplates LaunchTemplates ec2/launchTemplate:LaunchTemplate
    LaunchTemplateId=.id LaunchTemplateName=.name LatestVersionNumber=.latestVersion Tags=.pairs
ec2.DescribeNatGateways NatGateways ec2/natGateway:NatGateway
    NatGatewayId=.id SubnetId=.subnetId State=available Tags=.pairs
ec2.DescribeNetworkInterfaces NetworkInterfaces ec2/networkInterface:NetworkInterface
    NetworkInterfaceId=.id Description=.description VpcId=.vpcId Status=available TagSet=.pairs
ec2.DescribePlacementGroups PlacementGroups ec2/placementGroup:PlacementGroup
    GroupName=.name Strategy=.strategy State=available Tags=.pairs
ec2.DescribeRouteTables RouteTables ec2/routeTable:RouteTable
    RouteTableId=.id VpcId=.vpcId Tags=.pairs
ec2.DescribeSecurityGroupRules SecurityGroupRules _GROUP_RULES
    SecurityGroupRuleId=.id GroupId=.securityGroupId Tags=.pairs
ec2.DescribeSecurityGroups SecurityGroups _GROUPS
    GroupId=.id GroupName=.name Description=.description VpcId=.vpcId Tags=.pairs
ec2.DescribeSnapshots Snapshots ebs/snapshot:Snapshot
    SnapshotId=.id VolumeId=.volumeId State=completed Tags=.pairs
ec2.DescribeSubnets Subnets ec2/subnet:Subnet
    SubnetId=.id VpcId=.vpcId CidrBlock=.cidrBlock AvailabilityZone=.availabilityZone
    State=available Tags=.pairs
ec2.DescribeVolumes Volumes ebs/volume:Volume
    VolumeId=.id VolumeType=.type Size=.size State=available Tags=.pairs
ec2.DescribeVpcEndpoints VpcEndpoints ec2/vpcEndpoint:VpcEndpoint
    VpcEndpointId=.id ServiceName=.serviceName VpcEndpointType=.vpcEndpointType VpcId=.vpcId
    SubnetIds=.subnetIds State=available Tags=.pairs
ec2.DescribeVpcs Vpcs ec2/vpc:Vpc
    VpcId=.id CidrBlock=.cidrBlock State=available Tags=.pairs
elbv2.DescribeListeners Listeners lb/listener:Listener
    ListenerArn=.arn LoadBalancerArn=.loadBalancerArn Port=.port Protocol=.protocol
elbv2.DescribeLoadBalancers LoadBalancers lb/loadBalancer:LoadBalancer
    LoadBalancerArn=.arn LoadBalancerName=.name DNSName=.dnsName Type=.loadBalancerType
elbv2.DescribeTargetGroups TargetGroups lb/targetGroup:TargetGroup
    TargetGroupArn=.arn TargetGroupName=.name Port=.port Protocol=.protocol VpcId=.vpcId
iam.GetInstanceProfile InstanceProfile iam/instanceProfile:InstanceProfile
    InstanceProfileName=.name Arn=.arn Path=.path
iam.ListAttachedRolePolicies AttachedPolicies iam/rolePolicyAttachment:RolePolicyAttachment
    PolicyArn=.policyArn RoleName=.role
iam.ListInstanceProfiles InstanceProfiles iam/instanceProfile:InstanceProfile
    InstanceProfileName=.name Arn=.arn Path=.path
iam.ListRoles Roles iam/role:Role
    RoleName=.name Arn=.arn Path=.path
kms.DescribeKey KeyMetadata kms/key:Key
    KeyId=.id Arn=.arn DeletionDate=.deletionDate
logs.DescribeLogGroups logGroups cloudwatch/logGroup:LogGroup
    logGroupName=.name logGroupArn=.arn
scheduler.ListScheduleGroups ScheduleGroups scheduler/scheduleGroup:ScheduleGroup
    Name=.name Arn=.arn State=ACTIVE
scheduler.ListSchedules Schedules scheduler/schedule:Schedule
    Name=.name Arn=.arn GroupName=.groupName State=ENABLED
secretsmanager.ListSecrets SecretList secretsmanager/secret:Secret
    Name=.name ARN=.arn Tags=.pairs
sns.ListTopics Topics sns/topic:Topic
    TopicArn=.arn
"""
_KINDS = {
    "_GROUP_RULES": (
        "vpc/securityGroupIngressRule:SecurityGroupIngressRule",
        "vpc/securityGroupEgressRule:SecurityGroupEgressRule",
    ),
    "_GROUPS": (
        "ec2/securityGroup:SecurityGroup",
        "ec2/defaultSecurityGroup:DefaultSecurityGroup",
    ),
}
# Parameters that choose among all: by how the chosen field begins, and EC2's filters.
BEGINNINGS = {
    "AlarmNamePrefix": "AlarmName",
    "NamePrefix": "Name",
    "PathPrefix": "Path",
    "logGroupNamePrefix": "logGroupName",
}
FILTERS = {"group-id": "GroupId", "vpc-id": "VpcId"}
# They choose nothing: there are no pages and no other accounts, and nothing is planned.
NO_CHOICE = {"AccountId", "IncludePlannedDeletion", "MaxResults", "OwnerIds"}
# The tagging API knows roles in one region alone, and neither objects nor single schedules.
UNTAGGED = ("aws:iam/", "aws:s3/bucketObject", "aws:scheduler/schedule:")
# Types without an ARN of their own in the SDK: how AWS calls them in one.
NAMED = {"aws:ec2/natGateway:NatGateway": "natgateway", "aws:ec2/instance:Instance": "instance"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """How one call tells of its things."""

    key: str
    kinds: tuple[str, ...]
    fields: Mapping[str, str]

    def row(self, thing: Stored) -> dict[str, object]:
        """One thing."""
        facts: dict[str, object] = {"name": thing.name, **thing.state, "id": thing.id}
        facts |= {"pairs": pairs(tags_of(thing)), "path": thing.state.get("path") or "/"}
        return {
            field: facts.get(value[1:]) if value.startswith(".") else value
            for field, value in self.fields.items()
        }


def _read_table() -> dict[str, Listed]:
    listed: dict[str, Listed] = {}
    for line in _TABLE.strip().splitlines():
        words = line.split()
        if line.startswith(" "):
            call, one = listed.popitem()
            fields = {**one.fields, **dict(word.split("=", 1) for word in words)}
        else:
            call, key, kind = words
            one = Listed(key=key, kinds=_KINDS.get(kind, (kind,)), fields={})
            fields = {}
        listed[call] = Listed(key=one.key, kinds=one.kinds, fields=fields)
    return listed


LISTED = _read_table()


# What a call that chooses by names means by them.
NAMES = {
    "elbv2.DescribeLoadBalancers": "LoadBalancerName",
    "elbv2.DescribeTargetGroups": "TargetGroupName",
}


def _rows(ask: Ask) -> Iterator[dict[str, object]]:
    """Of a call of the table, those that were asked for."""
    for thing in ask.all(*LISTED[ask.call].kinds):
        row = _row(ask, thing)
        if all(_is_meant(ask, row, key) for key in ask.parameters):
            yield row


def _row(ask: Ask, thing: Stored) -> dict[str, object]:
    more = MORE.get(ask.call)
    return LISTED[ask.call].row(thing) | (dict(more(ask, thing)) if more else {})


def _is_meant(ask: Ask, row: Said, key: str) -> bool:
    if key in ("Filter", "Filters"):
        return all(_passes(ask, row, one) for one in ask.parts(key))
    if key == "Names":
        return row[NAMES[ask.call]] in ask.texts(key)
    if key in BEGINNINGS:
        return str(row[BEGINNINGS[key]]).startswith(ask.text(key))
    if key in row or key.removesuffix("s") in row:
        return row.get(key, row.get(key.removesuffix("s"))) in ask.texts(key)
    if key in NO_CHOICE:
        return True
    raise unknown(f"{ask.call} by {key}")


def _passes(ask: Ask, row: Said, which: Said) -> bool:
    name, values = str(which.get("Name")), which.get("Values")
    assert isinstance(values, list)
    if name in FILTERS and FILTERS[name] in row:
        return row[FILTERS[name]] in values
    word, _, tag = name.partition(":")
    if word != "tag":
        raise unknown(f"{ask.call} by {name}")
    told = row.get("TagSet", row.get("Tags"))
    assert isinstance(told, list)
    return any(one["Key"] == tag and one["Value"] in values for one in told)


def unknown(what: str) -> Refusal:
    """What nobody has written an answer for: a fault of the double, not of who asks."""
    return Refusal("NotImplemented", f"the double has no answer for {what}", 501)


def _list(ask: Ask) -> Said:
    """None is an answer too, unless one was asked for by its id."""
    rows = list(_rows(ask))
    ids = [key for key in ask.parameters if key.endswith("Ids") and key not in NO_CHOICE]
    if ids and not rows:
        code = f"Invalid{ids[0].removesuffix('Ids')}ID.NotFound"
        raise Refusal(code, f"{ask.texts(ids[0])} not found")
    if "Names" in ask.parameters and not rows:
        code = f"{NAMES[ask.call].removesuffix('Name')}NotFound"
        raise Refusal(code, f"{ask.texts('Names')} not found")
    return {LISTED[ask.call].key: rows}


def _one(ask: Ask, parameter: str, code: str) -> Said:
    """The thing that was named."""
    listed = LISTED[ask.call]
    thing = ask.the(listed.kinds[0], ask.text(parameter), code)
    return {listed.key: _row(ask, thing)}


def _associations(ask: Ask, table: Stored) -> Said:
    uses = ask.all("ec2/routeTableAssociation:RouteTableAssociation")
    told = [
        {
            "RouteTableAssociationId": use.id,
            "RouteTableId": table.id,
            "SubnetId": use.state.get("subnetId"),
            "Main": False,
        }
        for use in uses
        if use.state.get("routeTableId") == table.id
    ]
    return {"Associations": told}


def _attachments(_: Ask, gateway: Stored) -> Said:
    network = gateway.state.get("vpcId")
    return {"Attachments": [{"VpcId": network, "State": "available"}] if network else []}


def _nodes(ask: Ask, group: Stored) -> Said:
    return {"Instances": [{"InstanceId": node.id} for node in instances_of(ask, group)]}


def _instance_state(_: Ask, instance: Stored) -> Said:
    """One that somebody stored with few words runs, and is not spot."""
    is_spot = instance.state.get("instanceLifecycle") == "spot"
    told = {"State": {"Name": instance.state.get("instanceState") or "running"}}
    return {**told, "InstanceLifecycle": "spot"} if is_spot else told


def _roles(_: Ask, profile: Stored) -> Said:
    role = profile.state.get("role")
    return {"Roles": [{"RoleName": role}] if role else []}


MORE: Mapping[str, Callable[[Ask, Stored], Said]] = {
    "autoscaling.DescribeAutoScalingGroups": _nodes,
    "ec2.DescribeInstances": _instance_state,
    "ec2.DescribeInternetGateways": _attachments,
    "ec2.DescribeRouteTables": _associations,
    "ec2.DescribeSecurityGroupRules": lambda _, rule: {"IsEgress": "Egress" in rule.type},
    "iam.GetInstanceProfile": _roles,
    "iam.ListInstanceProfiles": _roles,
    "kms.DescribeKey": lambda _, key: {"KeyState": key.state.get("keyState") or "Enabled"},
}


def instances_of(ask: Ask, group: Stored) -> list[Stored]:
    """Machines that somebody stored as a group's; Auto Scaling tags them so."""
    there = ask.all("ec2/instance:Instance")
    return [one for one in there if tags_of(one).get("aws:autoscaling:groupName") == group.name]


def _instances(ask: Ask) -> Said:
    return {"Reservations": [{"Instances": [row]} for row in _rows(ask)]}


def _schedules(ask: Ask) -> Said:
    """Of a group that has to be there."""
    ask.the(
        "scheduler/scheduleGroup:ScheduleGroup", ask.text("GroupName"), "ResourceNotFoundException"
    )
    return _list(ask)


def _secrets(ask: Ask) -> Said:
    """Its one filter: tags with a value that begins so."""
    [which] = ask.parts("Filters")
    values = which.get("Values")
    if which.get("Key") != "tag-value" or not isinstance(values, list):
        raise unknown(f"{ask.call} by {which}")
    listed = LISTED[ask.call]
    found = [
        listed.row(secret)
        for secret in ask.all(*listed.kinds)
        if any(tag.startswith(value) for tag in tags_of(secret).values() for value in values)
    ]
    return {listed.key: found}


def _role_policies(ask: Ask) -> Said:
    role = ask.text("RoleName")
    rights = ask.all("iam/rolePolicy:RolePolicy")
    return {"PolicyNames": [one.state["name"] for one in rights if one.state.get("role") == role]}


def _resources(ask: Ask) -> Said:
    """The tagging API's: whatever has an ARN and bears all the tags."""
    wanted = ask.parts("TagFilters")
    told = []
    for thing in ask.all("*"):
        arn, tags = _arn(ask, thing), tags_of(thing)
        if arn and not thing.type.startswith(UNTAGGED) and tags and _bears(tags, wanted):
            told.append({"ResourceARN": arn, "Tags": pairs(tags)})
    return {"ResourceTagMappingList": told}


def _bears(tags: Mapping[str, str], wanted: list[Said]) -> bool:
    def bears(which: Said) -> bool:
        key, values = str(which["Key"]), which.get("Values")
        return key in tags and (not isinstance(values, list) or tags[key] in values)

    return all(bears(which) for which in wanted)


def _arn(ask: Ask, thing: Stored) -> str:
    if thing.type in NAMED:
        return f"arn:aws:ec2:{ask.region}:{ACCOUNT}:{NAMED[thing.type]}/{thing.id}"
    return str(thing.state.get("arn") or "")


def _identity(_: Ask) -> Said:
    return {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:root", "UserId": ACCOUNT}


ANSWERS: Mapping[str, Answer] = {
    **dict.fromkeys(LISTED, _list),
    "autoscaling.DescribeScalingActivities": lambda _: {"Activities": []},  # none rents machines
    "acm.DescribeCertificate": partial(
        _one, parameter="CertificateArn", code="ResourceNotFoundException"
    ),
    "ec2.DescribeInstances": _instances,
    "iam.GetInstanceProfile": partial(_one, parameter="InstanceProfileName", code="NoSuchEntity"),
    "iam.ListRolePolicies": _role_policies,
    "kms.DescribeKey": partial(_one, parameter="KeyId", code="NotFoundException"),
    "resourcegroupstaggingapi.GetResources": _resources,
    "scheduler.ListSchedules": _schedules,
    "secretsmanager.ListSecrets": _secrets,
    "sts.GetCallerIdentity": _identity,
}
