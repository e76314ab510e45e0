"""How each kind of thing is deleted, and in which order most of it goes at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from infra.clouds.aws.sweeping.api import Api
from infra.clouds.aws.sweeping.faults import code_of
from infra.clouds.leftovers import Item
from runtime.errors import Conflict, Refused, Unavailable

PAGES_A_ROUND = 1000  # of 1000 versions each, of one bucket
KEY_DAYS = 7  # the shortest that KMS allows
# AWS answers so for what a balancer, a gateway or an instance still uses.
USED = frozenset({"AuthFailure", "InvalidParameterValue", "OperationNotPermitted"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Rented(Item):
    """A thing of a stack in AWS, with what its deletion needs."""

    stack_id: str
    arn: str = ""
    holder: str = ""  # what it stands in: the group of a schedule
    is_going: bool = False  # its deletion was asked for before
    is_scheduled: bool = False  # AWS keeps it until a date, whatever is asked


class Deletion(Protocol):
    """Asks AWS to delete one thing."""

    def __call__(self, api: Api, item: Rented) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A deletion that is one call."""

    service: str
    operation: str
    parameter: str
    is_list: bool = False
    is_arn: bool = False
    others: Mapping[str, object] = field(default_factory=dict)
    used: frozenset[str] = frozenset()  # codes by which AWS says that something uses it

    def __call__(self, api: Api, item: Rented) -> None:
        """Name the thing as this call wants it."""
        name = item.arn if self.is_arn else item.id
        which = {self.parameter: [name] if self.is_list else name, **self.others}
        try:
            api.do(self.service, self.operation, **which)
        except Refused as error:
            if code_of(error) in self.used:
                raise Conflict(str(error)) from error
            raise


def _schedule(api: Api, item: Rented) -> None:
    api.do("scheduler", "delete_schedule", GroupName=item.holder, Name=item.id)


def _security_group(api: Api, item: Rented) -> None:
    """Its rules first: groups that name each other can't be deleted in any order."""
    for way, which in (("ingress", "!IsEgress"), ("egress", "IsEgress")):
        rules = api.rows(
            "ec2",
            "describe_security_group_rules",
            f"SecurityGroupRules[?{which}].{{id: SecurityGroupRuleId, holder: GroupId}}",
            Filters=[{"Name": "group-id", "Values": [item.id]}],
        )
        ids = [rule.id for rule in rules if rule.holder == item.id]
        if ids:
            revoke = f"revoke_security_group_{way}"
            api.do("ec2", revoke, GroupId=item.id, SecurityGroupRuleIds=ids)
    api.do("ec2", "delete_security_group", GroupId=item.id)


def _route_table(api: Api, item: Rented) -> None:
    """Not in use any more by a subnet that may stay a while."""
    cut = "RouteTables[].Associations[?!Main][].{id: RouteTableAssociationId}"
    for use in api.rows("ec2", "describe_route_tables", cut, RouteTableIds=[item.id]):
        api.do("ec2", "disassociate_route_table", AssociationId=use.id)
    api.do("ec2", "delete_route_table", RouteTableId=item.id)


def _internet_gateway(api: Api, item: Rented) -> None:
    networks = api.rows(
        "ec2",
        "describe_internet_gateways",
        "InternetGateways[].Attachments[].{id: VpcId}",
        InternetGatewayIds=[item.id],
    )
    for network in networks:
        api.do("ec2", "detach_internet_gateway", InternetGatewayId=item.id, VpcId=network.id)
    api.do("ec2", "delete_internet_gateway", InternetGatewayId=item.id)


def _bucket(api: Api, item: Rented) -> None:
    """With all versions of all objects; a very big one takes several rounds."""
    for _ in range(PAGES_A_ROUND):
        if not _delete_versions(api, item.id):
            break
    api.do("s3", "delete_bucket", Bucket=item.id)


def _delete_versions(api: Api, bucket: str) -> bool:
    """A page of them; false when there were none."""
    cut = "[Versions, DeleteMarkers][].{id: Key, name: VersionId}"
    versions = api.first_rows("s3", "list_object_versions", cut, Bucket=bucket)
    if not versions:
        return False
    objects = [{"Key": version.id, "VersionId": version.name} for version in versions]
    failed = api.rows(
        "s3",
        "delete_objects",
        "Errors[].{id: Key, state: Code, name: Message}",
        Bucket=bucket,
        Delete={"Objects": objects, "Quiet": True},
    )
    for one in failed:
        found = f"s3:DeleteObjectVersion of {one.id} in {bucket}: {one.state}: {one.name}"
        if one.state == "AccessDenied":
            raise Refused(f"{found}; allow it, or lift the hold of the object, then repeat")
        raise Unavailable(found)
    return True


def _instance_profile(api: Api, item: Rented) -> None:
    cut = "InstanceProfile.Roles[].{id: RoleName}"
    profile = {"InstanceProfileName": item.id}
    for role in api.rows("iam", "get_instance_profile", cut, **profile):
        api.do("iam", "remove_role_from_instance_profile", RoleName=role.id, **profile)
    api.do("iam", "delete_instance_profile", **profile)


def _role(api: Api, item: Rented) -> None:
    role = {"RoleName": item.id}
    for row in api.rows("iam", "list_role_policies", "PolicyNames[].{id: @}", **role):
        api.do("iam", "delete_role_policy", PolicyName=row.id, **role)
    cut = "AttachedPolicies[].{id: PolicyArn}"
    for row in api.rows("iam", "list_attached_role_policies", cut, **role):
        api.do("iam", "detach_role_policy", PolicyArn=row.id, **role)
    api.do("iam", "delete_role", **role)


def _budget(api: Api, item: Rented) -> None:
    api.do("budgets", "delete_budget", AccountId=api.account(), BudgetName=item.id)


def _ec2(operation: str, parameter: str, used: frozenset[str] = frozenset()) -> Call:
    return Call(service="ec2", operation=operation, parameter=parameter, used=used)


# What starts machines goes first, then what costs most, then what it held.
DELETIONS: Mapping[str, Deletion] = {
    "schedule": _schedule,
    "schedule-group": Call(
        service="scheduler", operation="delete_schedule_group", parameter="Name"
    ),
    # Before what they watch: nobody is to be called because a stack is taken down.
    "alarm": Call(
        service="cloudwatch", operation="delete_alarms", parameter="AlarmNames", is_list=True
    ),
    "topic": Call(service="sns", operation="delete_topic", parameter="TopicArn", is_arn=True),
    "autoscaling-group": Call(
        service="autoscaling",
        operation="delete_auto_scaling_group",
        parameter="AutoScalingGroupName",
        others={"ForceDelete": True},  # with its machines, and without waiting for their hooks
    ),
    "instance": Call(
        service="ec2", operation="terminate_instances", parameter="InstanceIds", is_list=True
    ),
    "balancer": Call(
        service="elbv2",
        operation="delete_load_balancer",
        parameter="LoadBalancerArn",
        is_arn=True,
    ),
    "target-group": Call(
        service="elbv2", operation="delete_target_group", parameter="TargetGroupArn", is_arn=True
    ),
    "nat-gateway": _ec2("delete_nat_gateway", "NatGatewayId"),
    "vpc-endpoint": Call(
        service="ec2", operation="delete_vpc_endpoints", parameter="VpcEndpointIds", is_list=True
    ),
    "launch-template": _ec2("delete_launch_template", "LaunchTemplateId"),
    "placement-group": _ec2("delete_placement_group", "GroupName"),
    "network-interface": _ec2("delete_network_interface", "NetworkInterfaceId", USED),
    "volume": _ec2("delete_volume", "VolumeId"),
    "snapshot": _ec2("delete_snapshot", "SnapshotId"),
    "address": _ec2("release_address", "AllocationId", USED),
    "security-group": _security_group,
    "subnet": _ec2("delete_subnet", "SubnetId"),
    "route-table": _route_table,
    "internet-gateway": _internet_gateway,
    "vpc": _ec2("delete_vpc", "VpcId"),
    "certificate": Call(
        service="acm", operation="delete_certificate", parameter="CertificateArn", is_arn=True
    ),
    "bucket": _bucket,
    "log-group": Call(service="logs", operation="delete_log_group", parameter="logGroupName"),
    "secret": Call(
        service="secretsmanager",
        operation="delete_secret",
        parameter="SecretId",
        is_arn=True,
        others={"ForceDeleteWithoutRecovery": True},  # else its name is taken for a month
        used=frozenset({"InvalidRequestException"}),  # it is being deleted
    ),
    "key": Call(
        service="kms",
        operation="schedule_key_deletion",
        parameter="KeyId",
        others={"PendingWindowInDays": KEY_DAYS},
    ),
    "instance-profile": _instance_profile,
    "role": _role,
    "budget": _budget,
}
ORDER = {kind: index for index, kind in enumerate(DELETIONS)}
