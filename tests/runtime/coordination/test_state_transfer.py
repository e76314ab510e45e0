"""State from a live peer: every byte of it, verified, at a bounded rate, to members only."""

import json
import socket
import threading

import pytest

from runtime.coordination.channel import Channel
from runtime.coordination.state_transfer import PART_BYTES, StateServer, describe, fetch
from runtime.errors import AtollError, Corrupt, Unavailable
from tests.subnet import Subnet

KEY = b"k" * 32
FAST = 1 << 40
FILES = [b"", b"digest", bytes(range(256)) * (3 * PART_BYTES // 256) + b"tail"]


@pytest.fixture
def subnet() -> Subnet:
    return Subnet()


@pytest.fixture
def host(subnet: Subnet) -> str:
    return f"{subnet}.10"


def test_what_is_served_arrives_as_often_as_it_is_asked_for(host: str) -> None:
    server = StateServer(host, KEY, FILES, bytes_per_s=FAST)

    assert [*fetch(server.address, KEY)] == FILES
    assert [*fetch(server.address, KEY)] == FILES

    server.close()


def test_parts_are_sent_no_faster_than_the_rate(host: str) -> None:
    paused: list[float] = []
    server = StateServer(host, KEY, FILES, bytes_per_s=1000, sleep=paused.append)

    received = sum(len(content) for content in fetch(server.address, KEY))

    assert sum(paused) == pytest.approx(received / 1000)
    assert max(paused) == PART_BYTES / 1000
    server.close()


def test_a_stranger_gets_nothing(host: str) -> None:
    server = StateServer(host, KEY, FILES, bytes_per_s=FAST)

    with pytest.raises(AtollError):
        next(fetch(server.address, b"s" * 32))

    server.close()


def test_a_source_that_is_gone_is_unavailable(host: str) -> None:
    server = StateServer(host, KEY, FILES, bytes_per_s=FAST)
    server.close()

    with pytest.raises(Unavailable):
        next(fetch(server.address, KEY))


def test_a_source_that_dies_in_the_middle_is_unavailable(host: str) -> None:
    def die(_: float) -> None:
        raise Unavailable("gone")

    server = StateServer(host, KEY, FILES, bytes_per_s=FAST, sleep=die)
    files = fetch(server.address, KEY)
    assert next(files) == b""

    with pytest.raises(Unavailable):
        list(files)

    server.close()


def test_a_file_that_is_not_what_was_announced_is_corrupt(host: str) -> None:
    listener = socket.create_server((host, 0))

    def serve() -> None:
        channel = Channel(listener.accept()[0], KEY, is_dialer=False)
        channel.send(json.dumps([describe(b"digest")]).encode())
        channel.send(b"digesT")

    threading.Thread(target=serve, daemon=True).start()

    with pytest.raises(Corrupt, match="SHA-256"):
        list(fetch(f"{host}:{listener.getsockname()[1]}", KEY))

    listener.close()
