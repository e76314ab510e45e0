"""Names and addresses are valid everywhere and never meet."""

import re
from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from infra.plan.limits import stop_s
from infra.plan.names import (
    NODES_MAX,
    OFFSETS,
    balancer_address,
    local_subnet,
    node_address,
    node_name,
)
from tests.strategies import stack_ids

# RFC 1123 label, which clouds, file names and metrics all accept.
LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


@given(stack_ids)
def test_no_two_nodes_of_a_stack_share_an_address(stack_id: str) -> None:
    addresses = [node_address(stack_id, role, i) for role in OFFSETS for i in range(NODES_MAX)]
    addresses.append(balancer_address(stack_id))

    assert len(set(addresses)) == len(addresses)


@given(stack_ids)
def test_addresses_are_loopback_and_leave_the_usual_ones_alone(stack_id: str) -> None:
    taken = [IPv4Network("127.0.0.0/16"), IPv4Network("127.1.0.0/16")]

    for address in (balancer_address(stack_id), node_address(stack_id, "gateway", NODES_MAX - 1)):
        ip = IPv4Address(address)
        assert ip.is_loopback
        assert not any(ip in network for network in taken)


@given(stack_ids, stack_ids)
def test_subnets_differ_where_the_first_two_bytes_do(one: str, other: str) -> None:
    def place(stack_id: str) -> tuple[int, int]:
        first, second = bytes.fromhex(stack_id)[:2]
        return first % 252, second

    assert (local_subnet(one) == local_subnet(other)) == (place(one) == place(other))


@given(st.sampled_from(sorted(OFFSETS)), st.integers(0, NODES_MAX - 1))
def test_node_names_are_labels_and_name_one_node(pool: str, index: int) -> None:
    name = node_name(pool, index)

    assert LABEL.fullmatch(name)
    assert name.rpartition("-") == (pool, "-", str(index))


def test_a_node_is_given_longer_to_stop_than_it_may_take() -> None:
    assert stop_s(30.0) > 30.0
