"""Admit a request, or say when to come again: 429 when the queue is full.

Pure. A queue without a bound only moves the failure to the client's timeout, so what can't be
started soon is refused at once, with the time it takes to work off what is open.
"""

import math
from dataclasses import dataclass

RETRY_AFTER_S_MIN = 1.0
RETRY_AFTER_S_MAX = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """What a replica can hold."""

    slots: int  # requests decoded together
    queue: int  # requests that may wait for a slot
    tokens: int  # prompt and new tokens of all open requests together


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What it holds now."""

    requests: int
    tokens: int  # promised: prompt + the most new ones
    tokens_per_s: float  # measured over the last requests; 0 when nothing was measured


@dataclass(frozen=True, kw_only=True, slots=True)
class Admitted:
    """Go on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """Not now."""

    why: str
    retry_after_s: int


def admit(room: Room, load: Load, tokens: int) -> Admitted | Rejected:
    """Decide on one request that needs `tokens`. An empty replica takes any."""
    if load.requests == 0:
        return Admitted()
    if load.requests >= room.slots + room.queue:
        return Rejected(
            why=f"{load.requests} requests are open, {room.slots} run and {room.queue} may wait",
            retry_after_s=_retry_after_s(load, load.tokens / load.requests),
        )
    if load.tokens + tokens > room.tokens:
        return Rejected(
            why=f"{load.tokens} tokens are promised, {tokens} more exceed {room.tokens}",
            retry_after_s=_retry_after_s(load, load.tokens + tokens - room.tokens),
        )
    return Admitted()


def _retry_after_s(load: Load, tokens_too_many: float) -> int:
    """Whole seconds until so many tokens are worked off."""
    wait_s = tokens_too_many / load.tokens_per_s if load.tokens_per_s > 0 else RETRY_AFTER_S_MIN
    return math.ceil(min(max(wait_s, RETRY_AFTER_S_MIN), RETRY_AFTER_S_MAX))
