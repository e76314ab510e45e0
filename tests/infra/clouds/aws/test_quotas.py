"""Which quota a machine counts against, and how much of it a stack wants at most."""

from collections.abc import Mapping

import pytest

from infra.clouds.aws.quotas import vcpu_quota, vcpus_wanted
from infra.plan.machines import machine_table
from infra.plan.names import Role
from infra.plan.plan import PoolPlan
from infra.plan.spec import Capacity, PoolSpec

STANDARD, STANDARD_SPOT = "L-1216C47A", "L-34B43A08"
G, G_SPOT = "L-DB2E81BA", "L-3819A6DF"
P, OLD_P_SPOT, P_SPOT = "L-417A185B", "L-7212CCBC", "L-C4BD4855"


def wanted(*machines: str, capacity: Capacity, role: Role = "training") -> Mapping[str, int]:
    """Of a pool of three nodes, by the codes of quotas."""
    rented = PoolSpec(machines=machines, capacity=capacity)
    pool = PoolPlan(name=role, role=role, size_at_rest=0, size_max=3, rented=rented)
    return {quota.code: vcpus for quota, vcpus in vcpus_wanted([pool]).items()}


@pytest.mark.parametrize("is_spot", [False, True])
def test_each_machine_of_the_table_counts_against_a_quota(is_spot: bool) -> None:
    machines = machine_table("aws").machines

    assert [name for name in machines if vcpu_quota(name, is_spot=is_spot) is None] == []


@pytest.mark.parametrize(
    ("machine", "on_demand", "spot"),
    [
        ("t3.medium", STANDARD, STANDARD_SPOT),
        ("im4gn.large", STANDARD, STANDARD_SPOT),
        ("g4dn.xlarge", G, G_SPOT),
        ("gr6.4xlarge", G, G_SPOT),
        ("vt1.3xlarge", G, G_SPOT),
        ("p4de.24xlarge", P, OLD_P_SPOT),
        ("p5en.48xlarge", P, P_SPOT),
        ("p6-b200.48xlarge", P, P_SPOT),
        ("x2idn.16xlarge", None, None),
        ("inf2.xlarge", None, None),
        ("u-6tb1.56xlarge", None, None),
    ],
)
def test_a_family_has_its_quota(machine: str, on_demand: str | None, spot: str | None) -> None:
    found = [vcpu_quota(machine, is_spot=is_spot) for is_spot in (False, True)]

    assert [quota and quota.code for quota in found] == [on_demand, spot]


def test_of_several_machines_the_largest_counts_and_of_each_family_its_own() -> None:
    machines = ("g6.xlarge", "g6.12xlarge", "p5.4xlarge")

    assert wanted(*machines, capacity="spot") == {G_SPOT: 3 * 48, P_SPOT: 3 * 16}


def test_a_pool_that_serves_has_one_node_more_while_it_rolls() -> None:
    assert wanted("c7i.large", capacity="on_demand") == {STANDARD: 3 * 2}
    assert wanted("c7i.large", capacity="on_demand", role="replica") == {STANDARD: 4 * 2}


def test_a_mixed_pool_has_one_on_demand_and_a_roll_may_bring_another_of_either() -> None:
    assert wanted("c7i.large", capacity="mixed") == {STANDARD: 1 * 2, STANDARD_SPOT: 2 * 2}
    assert wanted("c7i.large", capacity="mixed", role="gateway") == {
        STANDARD: 2 * 2,
        STANDARD_SPOT: 3 * 2,
    }


def test_a_reservation_counts_by_itself() -> None:
    assert wanted("p5.48xlarge", capacity="reservation") == {}
