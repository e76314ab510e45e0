"""Listening sockets of this machine, of real processes."""

import os
import secrets
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from socket import AF_INET, AF_INET6, AF_UNIX, AddressFamily

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.clouds.local.sockets import Listener, abstract_sockets, holders, listeners
from tests.infra.clouds.local.planted import Planter, planting

ipv6 = pytest.mark.skipif(
    not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6"
)
# 127.254 is no stack's and no other test's that listens on a fixed port.
loopback = st.integers(int(IPv4Address("127.254.0.1")), int(IPv4Address("127.254.255.254")))


@pytest.fixture
def planter() -> Iterator[Planter]:
    with planting() as planter:
        yield planter


def at(address: str, port: int) -> list[Listener]:
    """Who listens there."""
    return [found for found in listeners() if (found.address, found.port) == (address, port)]


@pytest.mark.parametrize(
    ("family", "address", "told"),
    [
        (AF_INET, "127.254.7.9", "127.254.7.9"),
        (AF_INET, "0.0.0.0", "0.0.0.0"),
        pytest.param(AF_INET6, "::1", "::1", marks=ipv6),
        pytest.param(AF_INET6, "::", "::", marks=ipv6),
        # How Java listens: the machine's IPv4 address, by an IPv6 socket.
        pytest.param(AF_INET6, "::ffff:127.254.7.9", "127.254.7.9", marks=ipv6),
    ],
)
def test_a_listener_is_told_with_its_address_port_and_holder(
    planter: Planter, family: AddressFamily, address: str, told: str
) -> None:
    pid, port = planter.listen(family, address, {})

    [found] = at(told, port)

    assert holders({found.inode}) == {found.inode: pid}


@settings(max_examples=30)
@given(loopback.map(lambda number: str(IPv4Address(number))))
def test_every_address_is_read_in_the_machine_s_own_byte_order(address: str) -> None:
    with socket.create_server((address, 0)) as listening:
        [found] = at(*listening.getsockname())

        assert found.inode == os.fstat(listening.fileno()).st_ino


def test_a_port_is_told_only_while_somebody_listens_there() -> None:
    with socket.socket() as bound:
        bound.bind(("127.254.0.1", 0))
        address = bound.getsockname()
        before = at(*address)
        bound.listen()
        meanwhile = at(*address)
        with socket.create_connection(address) as client:
            connected, of_client = at(*address), at(*client.getsockname())
        bound.close()

        assert before == at(*address) == of_client == []
        assert len(meanwhile) == 1
        assert connected == meanwhile


def test_of_sockets_only_those_asked_for_and_held_are_told(planter: Planter) -> None:
    planter.listen(AF_INET, "127.254.0.1", {})
    pid, port = planter.listen(AF_INET, "127.254.0.1", {})
    [found] = at("127.254.0.1", port)
    with socket.socket() as closed:
        nobodys = os.fstat(closed.fileno()).st_ino

    assert holders({found.inode, nobodys}) == {found.inode: pid}
    assert holders(set()) == {}


def test_abstract_sockets_are_told_by_how_their_names_begin(planter: Planter) -> None:
    stack = f"atoll/{secrets.token_hex(4)}/"
    for name in (f"{stack}training", f"{stack}replica", f"x{stack}replica"):
        planter.listen(AF_UNIX, name, {})
    with socket.socket(AF_UNIX) as client:  # an accepted connection has the same name
        client.connect(f"\0{stack}replica")

        assert abstract_sockets(stack) == [f"{stack}replica", f"{stack}training"]
        assert abstract_sockets(f"{stack}replica") == [f"{stack}replica"]
