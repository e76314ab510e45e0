"""Quotas of an account in a region: which one a machine counts against, what a stack wants of each.

Pure. Names and codes as in AWS's "Amazon EC2 instance type quotas" and "Amazon VPC quotas" and as
Service Quotas itself answers (read 2026-11). That page names no quota for P6 on spot: it is taken
to be that of P5, which nobody has confirmed.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from infra.plan.machines import machine_table
from infra.plan.plan import PoolPlan
from infra.plan.spec import StackSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """By its code in Service Quotas."""

    service: str
    code: str
    name: str
    unit: str = ""


def _vcpus(code: str, name: str) -> Quota:
    return Quota(service="ec2", code=code, name=name, unit=" vCPUs")


ADDRESSES = Quota(service="ec2", code="L-0263D0A3", name="EC2-VPC Elastic IPs")
NETWORKS = Quota(service="vpc", code="L-F678F1CE", name="VPCs per Region")
TRANSLATIONS = Quota(service="vpc", code="L-FE5A380F", name="NAT gateways per Availability Zone")

# On demand, spot.
STANDARD = (
    _vcpus("L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances"),
    _vcpus("L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests"),
)
G = (
    _vcpus("L-DB2E81BA", "Running On-Demand G and VT instances"),
    _vcpus("L-3819A6DF", "All G and VT Spot Instance Requests"),
)
P = (
    _vcpus("L-417A185B", "Running On-Demand P instances"),
    _vcpus("L-C4BD4855", "All P5 Spot Instance Requests"),
)
OLD_P = (P[0], _vcpus("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests"))
# By the letters of a family, with the generation where not all share a quota.
FAMILIES: Mapping[str, tuple[Quota, Quota]] = {
    **dict.fromkeys(("a", "c", "d", "h", "i", "im", "is"), STANDARD),
    **dict.fromkeys(("m", "r", "t", "z"), STANDARD),
    **dict.fromkeys(("g", "gr", "vt"), G),
    **dict.fromkeys(("p2", "p3", "p4"), OLD_P),
    **dict.fromkeys(("p5", "p6"), P),
}
ON_DEMAND = {on_demand for on_demand, _ in FAMILIES.values()}
MACHINE = re.compile(r"([a-z]+)(\d+)")  # g, 6 of g6e.xlarge


def vcpu_quota(machine: str, *, is_spot: bool) -> Quota | None:
    """What a machine counts against; None for families that the kit never rents."""
    found = MACHINE.match(machine)
    if found is None:
        return None
    letters, generation = found.groups()
    on_demand, spot = FAMILIES.get(f"{letters}{generation}", FAMILIES.get(letters, (None, None)))
    return spot if is_spot else on_demand


def nodes_most(pool: PoolPlan) -> int:
    """Nodes at once: a pool that serves has one more while it rolls."""
    return pool.size_max if pool.role == "training" else pool.size_max + 1


def vcpus_wanted(pools: Iterable[PoolPlan]) -> Mapping[Quota, int]:
    """At most, whichever of its machines a pool gets.

    Nothing for nodes from a reservation: that counts against the quota itself, used or not.
    """
    machines = machine_table("aws").machines
    wanted: Counter[Quota] = Counter()
    for pool in pools:
        for is_spot, nodes in zip((False, True), _nodes(pool), strict=True):
            most: dict[Quota, int] = {}
            for name in pool.rented.machines if nodes else ():
                quota = vcpu_quota(name, is_spot=is_spot)
                assert quota is not None, f"{name} counts against no quota"
                most[quota] = max(most.get(quota, 0), machines[name].cpus)
            wanted.update({quota: nodes * cpus for quota, cpus in most.items()})
    return wanted


def translations_wanted(spec: StackSpec) -> int:
    """NAT gateways in each zone, with an address each."""
    return 1 if spec.cluster.egress == "nat" else 0


def _nodes(pool: PoolPlan) -> tuple[int, int]:
    """On demand and on spot, at most; a roll may bring a new one of either kind."""
    most = nodes_most(pool)
    match pool.rented.capacity:
        case "on_demand":
            return most, 0
        case "spot":
            return 0, most
        case "mixed":
            return 1 + most - pool.size_max, most - 1
        case "reservation":
            return 0, 0
