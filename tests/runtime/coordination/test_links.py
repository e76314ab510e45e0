"""Links between agents: what is told is heard, and a peer that is gone or silent is lost."""

import queue
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from runtime.coordination.channel import Channel
from runtime.coordination.links import Decided, Links, Told
from runtime.coordination.log import EpochRecord
from runtime.coordination.membership import Heard, Lost
from runtime.coordination.next_epoch import JOINING, LEAVING, TRAINING, Status
from runtime.limits import HEARTBEAT_S
from tests.subnet import Subnet

KEY = b"k" * 32
WAIT_S = 10.0
WATCHDOG_S = 4 * HEARTBEAT_S

News = Heard | Lost | Decided


@dataclass(slots=True)
class Agent:
    """A node's links and what it has heard."""

    status: Status
    links: Links
    inbox: "queue.SimpleQueue[News]"
    heard: list[News] = field(default_factory=list)

    def dial(self, other: "Agent") -> None:
        """As one that found it in the store."""
        status = other.status
        self.links.dial(status.node, status.boot_id, status.address, other.links.port)

    def wait_for(self, is_it: Callable[[News], bool]) -> News:
        """The first news of a kind, past ones too."""
        deadline = time.monotonic() + WAIT_S
        for news in self.heard:
            if is_it(news):
                return news
        while True:
            news = self.inbox.get(timeout=max(0.0, deadline - time.monotonic()))
            self.heard.append(news)
            if is_it(news):
                return news

    def hears(self, status: Status) -> None:
        """Until it has heard this very status."""
        self.wait_for(lambda news: news == Heard(status))


class PeerLink:
    """One link of a peer that a test plays by hand."""

    def __init__(self, one: Agent) -> None:
        self.status = Status(node="t-1", boot_id="b1", address="127.0.0.1", state=JOINING)
        connection = socket.create_connection((one.status.address, one.links.port))
        self.channel = Channel(connection, KEY, is_dialer=True)

    def tell(self, told_ns: int, state: str) -> None:
        """A state, and when."""
        self.status = self.status.model_copy(update={"state": state})
        told = Told(told_ns=told_ns, status=self.status)
        self.channel.send(told.model_dump_json().encode())


Start = Callable[..., Agent]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts agents; ends them all."""
    subnet, agents = Subnet(), list[Agent]()

    def start(index: int, boot: str = "b", key: bytes = KEY) -> Agent:
        status = Status(
            node=f"t-{index}", boot_id=f"{boot}{index}", address=f"{subnet}.{10 + index}",
            state=JOINING,
        )  # fmt: skip
        inbox: queue.SimpleQueue[News] = queue.SimpleQueue()
        agents.append(Agent(status, Links(status, key, WATCHDOG_S, inbox.put), inbox))
        return agents[-1]

    yield start
    for agent in agents:
        agent.links.close()


def test_who_dials_and_who_answers_hear_each_others_status(start: Start) -> None:
    one, other = start(0), start(1)

    one.dial(other)

    one.hears(other.status)
    other.hears(one.status)


def test_a_new_status_is_heard_and_so_is_a_decision(start: Start) -> None:
    one, other = start(0), start(1)
    one.dial(other)
    one.hears(other.status)
    changed = one.status.model_copy(update={"state": TRAINING, "step": 7})
    record = EpochRecord(
        kind="epoch", members=("t-0",), writer="t-0", at=datetime(2026, 1, 1, tzinfo=UTC)
    )

    one.links.tell(changed)
    one.links.decided(3, record)

    other.hears(changed)
    assert other.wait_for(lambda news: isinstance(news, Decided)) == Decided(
        number=3, record=record
    )


def test_a_peer_that_ends_is_lost_at_once(start: Start) -> None:
    one, other = start(0), start(1)
    one.dial(other)
    one.hears(other.status)

    other.links.close()

    assert one.wait_for(lambda news: isinstance(news, Lost)) == Lost("t-1", "b1")


def test_of_two_links_to_the_same_peer_only_the_last_ones_end_is_a_loss(start: Start) -> None:
    one = start(0)
    first, second = PeerLink(one), PeerLink(one)
    first.tell(1, JOINING)
    second.tell(2, TRAINING)
    one.hears(second.status)

    first.channel.close()
    time.sleep(HEARTBEAT_S)  # it would have come by now
    second.tell(3, LEAVING)
    one.hears(second.status)
    assert not any(isinstance(news, Lost) for news in one.heard)

    second.channel.close()
    assert one.wait_for(lambda news: isinstance(news, Lost)) == Lost("t-1", "b1")


def test_what_a_slow_link_brings_late_is_not_heard(start: Start) -> None:
    one = start(0)
    slow, quick = PeerLink(one), PeerLink(one)
    quick.tell(2, TRAINING)
    one.hears(quick.status)

    slow.tell(1, JOINING)
    slow.tell(3, LEAVING)

    one.hears(slow.status)
    told = [news.status.state for news in one.heard if isinstance(news, Heard)]
    assert told == [TRAINING, LEAVING]


def test_a_silent_peer_is_lost_after_the_watchdogs_time(start: Start) -> None:
    one = start(0)
    silent = PeerLink(one)
    silent.tell(1, TRAINING)
    one.hears(silent.status)

    lost = one.wait_for(lambda news: isinstance(news, Lost))

    assert lost == Lost("t-1", "b1", silent_s=WATCHDOG_S)


def test_a_node_that_returns_is_another_boot_and_the_old_ones_end_is_told_apart(
    start: Start,
) -> None:
    one, old = start(0), start(1, "old")
    one.dial(old)
    one.hears(old.status)
    new = start(1, "new")
    new.dial(one)
    one.hears(new.status)

    old.links.close()

    assert one.wait_for(lambda news: isinstance(news, Lost)) == Lost("t-1", "old1")


def test_a_stranger_is_not_heard(start: Start) -> None:
    one, stranger = start(0), start(1, key=b"s" * 32)

    stranger.dial(one)
    friend = start(2)
    friend.dial(one)

    one.hears(friend.status)
    assert all(isinstance(news, Heard) and news.status == friend.status for news in one.heard)


@pytest.mark.parametrize("words", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 4096])
def test_whatever_connects_does_no_harm(start: Start, words: bytes) -> None:
    one, other = start(0), start(1)
    with socket.create_connection((one.status.address, one.links.port)) as connection:
        connection.sendall(words)

    other.dial(one)

    one.hears(other.status)
