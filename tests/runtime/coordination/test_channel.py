"""Frames between two with the same key: theirs alone, whole, in order, and nobody else's."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.coordination.channel import FRAME_BYTES_MAX, Channel
from runtime.errors import AtollError, Refused, Unavailable

KEY, OTHER = b"k" * 32, b"o" * 32
WAIT_S = 10.0


def pair(mine: bytes = KEY, theirs: bytes = KEY) -> tuple[Channel, Channel]:
    """Both ends of a channel; raises what the first of them raises."""
    left, right = socket.socketpair()
    for end in (left, right):
        end.settimeout(WAIT_S)
    with ThreadPoolExecutor(2) as threads:
        ends = (
            threads.submit(Channel, left, mine, is_dialer=True),
            threads.submit(Channel, right, theirs, is_dialer=False),
        )
        return ends[0].result(), ends[1].result()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=300)), max_size=20))
def test_frames_arrive_whole_and_in_order_both_ways(frames: list[tuple[bool, bytes]]) -> None:
    one, other = pair()

    for is_mine, payload in frames:
        (one if is_mine else other).send(payload)

    for is_mine, payload in frames:
        assert (other if is_mine else one).receive() == payload
    one.close()
    other.close()


def test_a_large_frame_arrives_while_both_are_at_it() -> None:
    one, other = pair()
    payload = bytes(range(256)) * (FRAME_BYTES_MAX // 256)

    sending = threading.Thread(target=one.send, args=(payload,))
    sending.start()

    assert other.receive() == payload
    sending.join()


def test_who_has_another_key_is_refused_by_both() -> None:
    with pytest.raises((Refused, Unavailable)):
        pair(KEY, OTHER)


@pytest.mark.parametrize("at", [0, 3, 4, 20, 35, 36, 40])
def test_a_changed_byte_is_noticed_wherever_it_is(at: int) -> None:
    one, middle_in, middle_out, other = *socket.socketpair(), *socket.socketpair()
    stop = threading.Event()
    threads = [
        threading.Thread(target=relay, args=(middle_in, middle_out, stop, at), daemon=True),
        threading.Thread(target=relay, args=(middle_out, middle_in, None, None), daemon=True),
    ]
    for thread in threads:
        thread.start()
    with ThreadPoolExecutor(2) as both:
        dialing = both.submit(Channel, one, KEY, is_dialer=True)
        answering = both.submit(Channel, other, KEY, is_dialer=False)
        sender, receiver = dialing.result(), answering.result()
    other.settimeout(1.0)  # a changed length may ask for more than will come
    stop.set()

    sender.send(b"payload")

    with pytest.raises(AtollError):
        receiver.receive()


def relay(
    source: socket.socket, target: socket.socket, is_on: threading.Event | None, at: int | None
) -> None:
    """Pass bytes on; once told to, flip a bit of the one at this place."""
    passed = 0
    while data := received(source):
        if is_on is not None and is_on.is_set() and at is not None:
            changed = bytearray(data)
            if passed <= at < passed + len(data):
                changed[at - passed] ^= 1
            passed += len(data)
            data = bytes(changed)
        target.sendall(data)


def received(source: socket.socket) -> bytes:
    """What comes; nothing once the other side is gone, however it went."""
    try:
        return source.recv(1 << 16)
    except OSError:
        return b""


def test_a_frame_can_not_be_played_again() -> None:
    one, other = pair()
    one.send(b"first")
    raw = other._connection.recv(1 << 16)
    replay, end = socket.socketpair()
    other._connection = end

    replay.sendall(raw + raw)

    assert other.receive() == b"first"
    with pytest.raises(Unavailable, match="changed"):
        other.receive()


@pytest.fixture
def ends() -> tuple[Channel, Channel]:
    return pair()


def test_the_end_of_one_is_the_end_of_the_other(ends: tuple[Channel, Channel]) -> None:
    one, other = ends

    one.close()
    one.close()

    with pytest.raises(Unavailable, match="closed"):
        other.receive()
    with pytest.raises(Unavailable):
        one.send(b"x")


def test_a_closed_end_wakes_whoever_reads_it(ends: tuple[Channel, Channel]) -> None:
    one, _ = ends
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(one.receive)

        one.close()

        with pytest.raises(Unavailable):
            reading.result(WAIT_S)
