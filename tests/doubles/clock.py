"""A clock that moves when somebody sleeps by it."""

from collections.abc import Callable
from random import Random

from runtime.objects import Patience


class Clock:
    """Seconds since it was made, all of them slept."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.at_pause: Callable[[int], None] = lambda _: None  # told the number of each, from 1

    def now(self) -> float:
        """As `time.monotonic`."""
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        """As `time.sleep`, at once."""
        assert seconds >= 0
        self.slept.append(seconds)
        self.at_pause(len(self.slept))


def patience(clock: Clock | None = None, *, total_s: float = 30.0, seed: int = 0) -> Patience:
    """Patience that costs no time, and pauses that a seed draws."""
    clock = clock or Clock()
    return Patience(total_s=total_s, now=clock.now, sleep=clock.sleep, dice=Random(seed))
