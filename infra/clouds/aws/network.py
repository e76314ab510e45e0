"""A network of the stack's own: balancer in public subnets, nodes in private ones.

One public and one private subnet per zone. Nodes have no public address; what they fetch goes
through a NAT gateway of their zone, and to S3 by a gateway endpoint, which costs nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import Input, Output, Resource

from infra.clouds.aws.place import Place
from infra.plan.limits import GATEWAY_PORT, REPLICA_PORT
from infra.plan.names import Role
from infra.plan.network import BalancerPlan

ADDRESSES = "10.0.0.0/16"
EVERYWHERE = "0.0.0.0/0"
ZONES_MAX = 15  # that fit into the addresses as they are cut below


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """What other rooms need of it."""

    vpc_id: Output[str]
    public: Sequence[Output[str]]  # subnets, one per zone
    private: Sequence[Output[str]]
    balancer: Output[str]  # security groups
    pools: Mapping[Role, Output[str]]
    ways: Sequence[Resource]  # what a node must find before it can fetch anything


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """Addresses of a zone."""

    public: str
    private: str


def cuts(zones: int) -> list[Cut]:
    """A /24 for each public subnet and a /20 for each private one; none overlap."""
    assert 0 < zones <= ZONES_MAX
    return [
        Cut(public=f"10.0.{index}.0/24", private=f"10.0.{16 * (index + 1)}.0/20")
        for index in range(zones)
    ]


def make_network(zones: Sequence[str], balancer: BalancerPlan, place: Place) -> Network:
    """The network, closed but for the balancer's port."""
    vpc = aws.ec2.Vpc(
        "vpc",
        cidr_block=ADDRESSES,
        enable_dns_support=True,
        enable_dns_hostnames=True,
        tags=place.tags("network"),
        opts=place.after(),
    )
    # Without rules: nothing that forgets to name a group is reachable.
    aws.ec2.DefaultSecurityGroup(
        "default-group", vpc_id=vpc.id, tags=place.tags("network"), opts=place.after()
    )
    public, private, ways = _subnets(zones, vpc.id, place)
    groups = _groups(vpc.id, place)
    _rules(groups, balancer, place)
    return Network(
        vpc_id=vpc.id,
        public=public,
        private=private,
        balancer=groups["balancer"],
        pools={role: groups[role] for role in ("training", "replica", "gateway")},
        ways=ways,
    )


def _subnets(
    zones: Sequence[str], vpc_id: Input[str], place: Place
) -> tuple[list[Output[str]], list[Output[str]], list[Resource]]:
    tags = place.tags("network")
    internet = aws.ec2.InternetGateway("internet", vpc_id=vpc_id, tags=tags, opts=place.after())
    out = _table("public", vpc_id, place)
    way_out = aws.ec2.Route(
        "public",
        route_table_id=out.id,
        destination_cidr_block=EVERYWHERE,
        gateway_id=internet.id,
        opts=place.after(),
    )
    public, private = [], []
    ways: list[Resource] = [way_out]
    tables: list[Output[str]] = []
    for zone, cut in zip(zones, cuts(len(zones)), strict=True):
        front = _subnet(f"public-{zone}", zone, cut.public, vpc_id, out, place)
        back_table = _table(f"private-{zone}", vpc_id, place)
        back = _subnet(f"private-{zone}", zone, cut.private, vpc_id, back_table, place)
        ways.append(_translation(zone, front, back_table, way_out, place))
        tables.append(back_table.id)
        public.append(front.id)
        private.append(back.id)
    ways.append(
        aws.ec2.VpcEndpoint(
            "s3",
            vpc_id=vpc_id,
            service_name=f"com.amazonaws.{place.region}.s3",
            vpc_endpoint_type="Gateway",
            route_table_ids=tables,
            tags=tags,
            opts=place.after(),
        )
    )
    return public, private, ways


def _table(name: str, vpc_id: Input[str], place: Place) -> aws.ec2.RouteTable:
    tags = place.tags("network")
    return aws.ec2.RouteTable(name, vpc_id=vpc_id, tags=tags, opts=place.after())


def _subnet(
    name: str,
    zone: str,
    addresses: str,
    vpc_id: Input[str],
    table: aws.ec2.RouteTable,
    place: Place,
) -> aws.ec2.Subnet:
    subnet = aws.ec2.Subnet(
        name,
        vpc_id=vpc_id,
        availability_zone=zone,
        cidr_block=addresses,
        map_public_ip_on_launch=False,
        tags=place.tags("network"),
        opts=place.after(),
    )
    aws.ec2.RouteTableAssociation(
        name, subnet_id=subnet.id, route_table_id=table.id, opts=place.after()
    )
    return subnet


def _translation(
    zone: str,
    front: aws.ec2.Subnet,
    table: aws.ec2.RouteTable,
    way_out: Resource,
    place: Place,
) -> aws.ec2.Route:
    """One per zone: the loss of a zone takes no other's way out along."""
    tags = place.tags("network")
    address = aws.ec2.Eip(f"nat-{zone}", domain="vpc", tags=tags, opts=place.after(way_out))
    gateway = aws.ec2.NatGateway(
        f"nat-{zone}",
        allocation_id=address.allocation_id,
        subnet_id=front.id,
        tags=tags,
        opts=place.after(way_out),
    )
    return aws.ec2.Route(
        f"nat-{zone}",
        route_table_id=table.id,
        destination_cidr_block=EVERYWHERE,
        nat_gateway_id=gateway.id,
        opts=place.after(),
    )


def _groups(vpc_id: Input[str], place: Place) -> dict[str, Output[str]]:
    return {
        role: aws.ec2.SecurityGroup(
            role,
            name=place.name(role),
            description=f"Atoll: {role}",
            vpc_id=vpc_id,
            tags=place.tags(role),
            opts=place.after(),
        ).id
        for role in ("balancer", "gateway", "replica", "training")
    }


def _rules(groups: Mapping[str, Output[str]], balancer: BalancerPlan, place: Place) -> None:
    """Clients → balancer → gateways → replicas; training nodes hear each other alone."""
    for index, clients in enumerate(balancer.access.allowed_ranges):
        aws.vpc.SecurityGroupIngressRule(
            f"clients-{index}",
            security_group_id=groups["balancer"],
            cidr_ipv4=clients,
            ip_protocol="tcp",
            from_port=balancer.port,
            to_port=balancer.port,
            tags=place.tags("balancer"),
            opts=place.after(),
        )
    _pass("balancer", "gateway", GATEWAY_PORT, groups, place)
    aws.vpc.SecurityGroupEgressRule(
        "balancer-to-gateway",
        security_group_id=groups["balancer"],
        referenced_security_group_id=groups["gateway"],
        ip_protocol="tcp",
        from_port=GATEWAY_PORT,
        to_port=GATEWAY_PORT,
        tags=place.tags("balancer"),
        opts=place.after(),
    )
    _pass("gateway", "replica", REPLICA_PORT, groups, place)
    _pass("training", "training", None, groups, place)
    # Said by group besides: a rule by address does not let EFA's traffic out.
    aws.vpc.SecurityGroupEgressRule(
        "training-to-training",
        security_group_id=groups["training"],
        referenced_security_group_id=groups["training"],
        ip_protocol="-1",
        tags=place.tags("training"),
        opts=place.after(),
    )
    for role in ("gateway", "replica", "training"):
        aws.vpc.SecurityGroupEgressRule(
            f"{role}-out",
            security_group_id=groups[role],
            cidr_ipv4=EVERYWHERE,
            ip_protocol="-1",
            tags=place.tags(role),
            opts=place.after(),
        )


def _pass(
    source: str, target: str, port: int | None, groups: Mapping[str, Output[str]], place: Place
) -> None:
    """Let one group reach another on a port, or on all: links and collectives draw theirs."""
    aws.vpc.SecurityGroupIngressRule(
        f"{source}-reaches-{target}",
        security_group_id=groups[target],
        referenced_security_group_id=groups[source],
        ip_protocol="tcp" if port is not None else "-1",
        from_port=port,
        to_port=port,
        tags=place.tags(target),
        opts=place.after(),
    )
