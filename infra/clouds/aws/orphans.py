"""What a killed `up` has made in AWS and told nobody: removed, so that the next one can make it.

Only what that `up` was making when it was killed, and only what the state does not hold: all of it
is new, and nothing has been put into it. What AWS writes over without asking needs no help.
"""

from collections.abc import Callable, Mapping

import boto3  # type: ignore[import-untyped]

from infra.clouds.aws.sweep import clear, sweep
from infra.clouds.aws.sweeping.api import Api
from infra.clouds.aws.sweeping.deleting import Rented
from infra.clouds.aws.tags import TAG_ID
from infra.clouds.leftovers import Item, SweepReport
from infra.engine.broken_off import Begun, BrokenOff
from runtime.errors import Missing

# What the sweep calls it. Other types are parts of these, or can be made twice.
KINDS: Mapping[str, str] = {
    "aws:acm/certificate:Certificate": "certificate",
    "aws:autoscaling/group:Group": "autoscaling-group",
    "aws:budgets/budget:Budget": "budget",
    "aws:cloudwatch/logGroup:LogGroup": "log-group",
    "aws:cloudwatch/metricAlarm:MetricAlarm": "alarm",
    "aws:ec2/eip:Eip": "address",
    "aws:ec2/internetGateway:InternetGateway": "internet-gateway",
    "aws:ec2/launchTemplate:LaunchTemplate": "launch-template",
    "aws:ec2/natGateway:NatGateway": "nat-gateway",
    "aws:ec2/placementGroup:PlacementGroup": "placement-group",
    "aws:ec2/routeTable:RouteTable": "route-table",
    "aws:ec2/securityGroup:SecurityGroup": "security-group",
    "aws:ec2/subnet:Subnet": "subnet",
    "aws:ec2/vpc:Vpc": "vpc",
    "aws:ec2/vpcEndpoint:VpcEndpoint": "vpc-endpoint",
    "aws:iam/instanceProfile:InstanceProfile": "instance-profile",
    "aws:iam/role:Role": "role",
    "aws:lb/loadBalancer:LoadBalancer": "balancer",
    "aws:lb/targetGroup:TargetGroup": "target-group",
    "aws:s3/bucket:Bucket": "bucket",
    "aws:scheduler/schedule:Schedule": "schedule",
    "aws:scheduler/scheduleGroup:ScheduleGroup": "schedule-group",
    "aws:sns/topic:Topic": "topic",
}


def clear_orphans(
    session: boto3.Session, region: str, stack_id: str, found: BrokenOff
) -> tuple[str, ...]:
    """Remove them; what was removed, in words. Raises AtollError."""
    api = Api(session, region)
    parts = [word for begun in found.begun for word in _clear_part(api, stack_id, begun, found)]
    kinds = {KINDS[begun.type] for begun in found.begun if begun.type in KINDS}
    if not kinds:
        return tuple(parts)
    report = sweep(session, region, stack_id)
    orphans = [item for item in report.left if _is_orphan(item, kinds, found)]
    clear(session, region, SweepReport(left=tuple(orphans), kept=()))
    for item in report.kept:
        if item.kind == "bucket" and _is_orphan(item, kinds, found):
            api.do("s3", "delete_bucket", Bucket=item.id)  # which it refuses if one holds anything
            orphans.append(item)
    return (*parts, *(f"{item.kind} {item.id}" for item in orphans))


def _is_orphan(item: Item, kinds: set[str], found: BrokenOff) -> bool:
    arn = item.arn if isinstance(item, Rented) else ""
    return item.kind in kinds and not {item.id, arn} & found.known


def _clear_part(api: Api, stack_id: str, begun: Begun, found: BrokenOff) -> list[str]:
    clear_it = PARTS.get(begun.type)
    if clear_it is None:
        return []
    try:
        return clear_it(api, stack_id, begun, found)
    except Missing:  # it was not made, or what it is a part of is gone
        return []


def _route(api: Api, stack_id: str, begun: Begun, found: BrokenOff) -> list[str]:
    del stack_id, found
    table, to = begun.text("routeTableId"), begun.text("destinationCidrBlock")
    api.do("ec2", "delete_route", RouteTableId=table, DestinationCidrBlock=to)
    return [f"route {table} {to}"]


def _association(api: Api, stack_id: str, begun: Begun, found: BrokenOff) -> list[str]:
    del stack_id
    cut = "RouteTables[].Associations[].{id: RouteTableAssociationId, holder: SubnetId}"
    table, subnet = begun.text("routeTableId"), begun.text("subnetId")
    gone: list[str] = []
    for row in api.rows("ec2", "describe_route_tables", cut, RouteTableIds=[table]):
        if row.holder == subnet and row.id not in found.known:
            api.do("ec2", "disassociate_route_table", AssociationId=row.id)
            gone.append(f"route-table-association {row.id}")
    return gone


def _rule(verb: str) -> "Clear":
    def clear_it(api: Api, stack_id: str, begun: Begun, found: BrokenOff) -> list[str]:
        group = begun.text("securityGroupId")
        cut = "SecurityGroupRules[].{id: SecurityGroupRuleId, tags: Tags}"
        inside = [{"Name": "group-id", "Values": [group]}]
        gone: list[str] = []
        for row in api.rows("ec2", "describe_security_group_rules", cut, Filters=inside):
            if row.tags.get(TAG_ID) == stack_id and row.id not in found.known:
                api.do("ec2", verb, GroupId=group, SecurityGroupRuleIds=[row.id])
                gone.append(f"security-group-rule {row.id}")
        return gone

    return clear_it


def _listener(api: Api, stack_id: str, begun: Begun, found: BrokenOff) -> list[str]:
    del stack_id
    cut = "Listeners[].{id: ListenerArn}"
    gone: list[str] = []
    at = begun.text("loadBalancerArn")
    for row in api.rows("elbv2", "describe_listeners", cut, LoadBalancerArn=at):
        if row.id not in found.known:
            api.do("elbv2", "delete_listener", ListenerArn=row.id)
            gone.append(f"listener {row.id}")
    return gone


Clear = Callable[[Api, str, Begun, BrokenOff], list[str]]
PARTS: Mapping[str, Clear] = {
    "aws:ec2/route:Route": _route,
    "aws:ec2/routeTableAssociation:RouteTableAssociation": _association,
    "aws:lb/listener:Listener": _listener,
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": _rule(
        "revoke_security_group_egress"
    ),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": _rule(
        "revoke_security_group_ingress"
    ),
}
