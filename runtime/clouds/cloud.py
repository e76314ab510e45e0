"""What a node asks of its cloud, whichever it is.

`notice` raises Unavailable while the cloud's metadata server is away, and never says "none" then:
who asks again and again (`runtime.clouds.watch`) must be able to tell silence from peace, and goes
on training either way.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

from pydantic import SecretStr

# `reclaim`: the machine is taken away for good. `maintenance`: it stops, and may come back.
NoticeKind = Literal["reclaim", "maintenance"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """The cloud has said that it will take this node's machine."""

    kind: NoticeKind
    deadline: datetime  # by this machine's clock, in UTC; the machine may be gone after it
    left_s: float  # until the deadline when this was read; for who goes by a monotonic clock
    why: str  # in the cloud's own words
    event: str = ""  # the cloud's name of it, where it has one


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Which machine this is, as its cloud names it."""

    instance: str
    region: str
    zone: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """Clock, patience and chance, as a cloud's client gets them."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random  # in [0, 1)


LEFT_S_MAX = 10.0 * 365 * 86400  # nobody means more, and `datetime` ends somewhere
REAL = Surroundings()


class Cloud(Protocol):
    """One per cloud. Safe to share between threads."""

    def notice(self, wait_s: float = 0.0) -> Notice | None:
        """The notice that stands now, if one does; raises Unavailable.

        Where the cloud can hold the question until something changes, it is held up to `wait_s`;
        elsewhere the answer comes at once.
        """
        ...

    def release(self, notice: Notice) -> None:
        """Tell the cloud that all is saved, so that it need not wait for the deadline.

        For this node's notice alone, never for one that names other machines too. Does nothing
        where a cloud can't be told. Raises Unavailable or Refused.
        """
        ...

    def set_size(self, size: int) -> None:
        """Make this node's pool grow or shrink; harmless if it has that size.

        Returns when the cloud has taken the order, not when machines are there or gone. Raises
        Refused, or Unavailable after a limited number of tries.
        """
        ...

    def secret(self, reference: str) -> SecretStr:
        """What a reference of the node file stands for; raises Missing, Refused or Unavailable."""
        ...

    def identity(self) -> Identity:
        """Who this machine is; raises Refused or Unavailable."""
        ...


def notice_until(
    kind: NoticeKind, left_s: float, now: datetime, *, why: str, event: str = ""
) -> Notice:
    """A notice with so much time left; none is left once the deadline has passed."""
    left_s = min(max(left_s, 0.0), LEFT_S_MAX)
    return Notice(
        kind=kind, deadline=now + timedelta(seconds=left_s), left_s=left_s, why=why, event=event
    )
