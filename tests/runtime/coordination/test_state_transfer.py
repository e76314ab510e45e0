"""State from a live peer: every byte of it, at a bounded rate, to members only."""

import socket
import threading
from collections.abc import Iterator

import pytest

from runtime.coordination.channel import Channel
from runtime.coordination.state_transfer import PART_BYTES, StateServer, fetch
from runtime.errors import AtollError, Corrupt, Unavailable
from tests.subnet import Subnet

KEY = b"k" * 32
FAST = 1 << 40
WAIT_S = 20.0
FILES = [b"", b"digest", bytes(range(256)) * (3 * PART_BYTES // 256) + b"tail"]


@pytest.fixture
def subnet() -> Subnet:
    return Subnet()


@pytest.fixture
def host(subnet: Subnet) -> str:
    return f"{subnet}.10"


def test_what_is_served_arrives_as_often_as_it_is_asked_for(host: str) -> None:
    server = StateServer(host, KEY, lambda: FILES, bytes_per_s=FAST)

    assert [*fetch(server.address, KEY)] == FILES
    assert [*fetch(server.address, KEY)] == FILES

    server.close()


def test_parts_are_sent_no_faster_than_the_rate(host: str) -> None:
    paused: list[float] = []
    server = StateServer(host, KEY, lambda: FILES, bytes_per_s=1000, sleep=paused.append)

    received = sum(len(content) for content in fetch(server.address, KEY))

    assert sum(paused) == pytest.approx(received / 1000)
    assert max(paused) == PART_BYTES / 1000
    server.close()


def test_a_stranger_gets_nothing(host: str) -> None:
    server = StateServer(host, KEY, lambda: FILES, bytes_per_s=FAST)

    with pytest.raises(AtollError):
        next(fetch(server.address, b"s" * 32))

    server.close()


def test_a_source_that_is_gone_is_unavailable(host: str) -> None:
    server = StateServer(host, KEY, lambda: FILES, bytes_per_s=FAST)
    server.close()

    with pytest.raises(Unavailable):
        next(fetch(server.address, KEY))


def test_a_source_that_dies_in_the_middle_is_unavailable(host: str) -> None:
    def die(_: float) -> None:
        raise Unavailable("gone")

    server = StateServer(host, KEY, lambda: FILES, bytes_per_s=FAST, sleep=die)
    files = fetch(server.address, KEY)
    assert next(files) == b""

    with pytest.raises(Unavailable):
        list(files)

    server.close()


def test_who_closes_cuts_off_whom_it_serves_before_the_state_changes(host: str) -> None:
    is_serving, may_go_on = threading.Event(), threading.Event()

    def hold(_: float) -> None:
        is_serving.set()
        assert may_go_on.wait(WAIT_S)

    state = [bytearray(PART_BYTES), bytearray(PART_BYTES)]
    server = StateServer(host, KEY, lambda: map(bytes, state), bytes_per_s=FAST, sleep=hold)
    files = fetch(server.address, KEY)
    assert next(files) == bytes(PART_BYTES)
    assert is_serving.wait(WAIT_S)

    server.close()
    state[1][:] = b"x" * PART_BYTES
    may_go_on.set()

    with pytest.raises(Unavailable):
        list(files)


def test_a_file_is_made_when_its_turn_comes_and_not_kept(host: str) -> None:
    made: list[int] = []
    asked: list[int] = []

    def files() -> Iterator[bytes]:
        for number in range(4):
            made.append(number)
            yield bytes([number]) * (64 * PART_BYTES)  # more than sockets hold on their way

    server = StateServer(host, KEY, files, bytes_per_s=FAST)
    for number, _ in enumerate(fetch(server.address, KEY)):
        asked.append(max(made) - number)

    assert made == [0, 1, 2, 3]
    assert max(asked) <= 1
    server.close()


@pytest.mark.parametrize(
    ("frames", "fault"),
    [
        ([(6).to_bytes(8, "big"), b"digest and more"], "found 15 bytes of a file of 6"),
        ([(1 << 50).to_bytes(8, "big")], "allowed"),
    ],
    ids=["more than announced", "too much announced"],
)
def test_a_file_that_is_not_what_was_announced_is_corrupt(
    host: str, frames: list[bytes], fault: str
) -> None:
    listener = socket.create_server((host, 0))

    def serve() -> None:
        channel = Channel(listener.accept()[0], KEY, is_dialer=False)
        for frame in frames:
            channel.send(frame)

    threading.Thread(target=serve, daemon=True).start()

    with pytest.raises(Corrupt, match=fault):
        list(fetch(f"{host}:{listener.getsockname()[1]}", KEY))

    listener.close()
