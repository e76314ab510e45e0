"""An order to a cloud's control API: sent, understood, tried again within limits.

What an answer means differs by cloud; what follows from the meaning does not, and is here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from pydantic import BaseModel, ConfigDict

from runtime.clouds.cloud import Surroundings
from runtime.clouds.wire import Reply, Request, send
from runtime.errors import Missing, Refused, Unavailable
from runtime.limits import CONTROL_AGAIN_S, CONTROL_AGAIN_S_MAX, CONTROL_S, CONTROL_TRIES

ANSWERED_CHARACTERS_MAX = 300  # of a cloud's own words in one of ours


class Answer(BaseModel):
    """Base of what a cloud answers; of a misfit only the place is told, never what stood there."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Meaning(Enum):
    """What an answer says about the order."""

    DONE = auto()
    AGAIN = auto()  # throttled, or the cloud's own fault
    STALE = auto()  # the token that came with it is over
    MISSING = auto()
    REFUSED = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Understood:
    """An answer's meaning, and the cloud's words for it."""

    meaning: Meaning
    words: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What is wanted of a cloud, and how its answers are to be read."""

    what: str  # for a message: where it went wrong
    do: str  # for a message: what the asker must change if it is refused
    is_read: bool  # of something that may be missing; else what it needs is a setting
    request: Callable[[], Request]  # made anew for each try, since it carries a token
    understand: Callable[[Reply], Understood]
    forget_token: Callable[[], None]


def carry_out(order: Order, around: Surroundings) -> Reply:
    """Send until it is done; raises Refused, Missing, or Unavailable after the last try.

    All orders here may be given twice: a pool's size is a goal, and a secret is only read.
    """
    is_renewed = False
    words = ""
    for number in range(CONTROL_TRIES):
        try:
            reply = send(order.request(), within_s=CONTROL_S)
        except Unavailable as fault:
            words, asked_s = str(fault), 0.0
        else:
            understood = order.understand(reply)
            words, asked_s = understood.words[:ANSWERED_CHARACTERS_MAX], _asked_s(reply)
            if understood.meaning is Meaning.DONE:
                return reply
            if understood.meaning is Meaning.MISSING and order.is_read:
                raise Missing(f"{order.what}: {words}; {order.do}")
            if understood.meaning is Meaning.STALE and not is_renewed:
                is_renewed = True
                order.forget_token()
                continue
            if understood.meaning is not Meaning.AGAIN:
                raise Refused(f"{order.what}: {words}; {order.do}")
        if number < CONTROL_TRIES - 1:
            around.sleep(pause_s(number, asked_s, around.chance()))
    raise Unavailable(f"{order.what}: not done in {CONTROL_TRIES} tries: {words}")


def pause_s(number: int, asked_s: float, chance: float) -> float:
    """Before the next try; many nodes that fail together must not ask again together."""
    grown_s = min(CONTROL_AGAIN_S * 2.0**number, CONTROL_AGAIN_S_MAX)
    return max(grown_s * (0.5 + chance / 2), min(asked_s, CONTROL_AGAIN_S_MAX))


def _asked_s(reply: Reply) -> float:
    told = reply.headers.get("retry-after", "")
    return float(told) if told.isascii() and told.isdigit() else 0.0
