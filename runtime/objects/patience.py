"""How long a call is tried, and the pauses between its tries."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from runtime.limits import (
    STORE_PATIENCE_S,
    STORE_PAUSE_S_MAX,
    STORE_PAUSE_S_MIN,
    STORE_TRIES_MAX,
    STORE_TRY_S,
    STORE_TRY_SHARE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """Time, clock and dice of a store's calls."""

    total_s: float = STORE_PATIENCE_S
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    dice: random.Random = field(default_factory=random.Random)

    @property
    def try_s(self) -> float:
        """How long one request may take."""
        return min(STORE_TRY_S, self.total_s * STORE_TRY_SHARE)

    def tries(self) -> Iterator[int]:
        """Number the tries of one call, with pauses between; none begins that could end too late.

        The pauses are drawn, so that many who failed together do not come back together.
        """
        last_begin = self.now() + self.total_s - self.try_s
        for number in range(STORE_TRIES_MAX):
            yield number
            left_s = last_begin - self.now()
            if left_s <= 0:
                return
            self.sleep(min(left_s, self.dice.uniform(0.5, 1.0) * pause_s_max(number)))


def pause_s_max(number: int) -> float:
    """The longest pause after a try; the first try is number 0."""
    doublings = min(number, 32)
    return float(min(STORE_PAUSE_S_MAX, STORE_PAUSE_S_MIN * 2**doublings))
