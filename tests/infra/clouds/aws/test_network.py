"""Subnets of a network do not overlap and lie in it, for any number of zones."""

from ipaddress import IPv4Network
from itertools import combinations

import pytest

from infra.clouds.aws.network import ADDRESSES, ZONES_MAX, cuts


@pytest.mark.parametrize("zones", range(1, ZONES_MAX + 1))
def test_subnets_lie_in_the_network_and_none_overlap(zones: int) -> None:
    subnets = [IPv4Network(text) for cut in cuts(zones) for text in (cut.public, cut.private)]

    assert len(subnets) == 2 * zones
    assert all(subnet.subnet_of(IPv4Network(ADDRESSES)) for subnet in subnets)
    assert not any(one.overlaps(other) for one, other in combinations(subnets, 2))


def test_a_zones_addresses_do_not_depend_on_how_many_there_are() -> None:
    assert cuts(3)[:2] == cuts(2)
