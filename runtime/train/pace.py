"""Who is slow? The collective makes all take equally long, so each times itself before it."""

import statistics
from collections import Counter, deque

WINDOW_STEPS = 20
SLOW_RATIO = 1.5  # of the slowest member's time to the others' median


class Pace:
    """Compute times of the last steps, the same on every member."""

    def __init__(self) -> None:
        self._slowest: deque[tuple[int, float]] = deque(maxlen=WINDOW_STEPS)

    def add(self, compute_s: list[float]) -> None:
        """One step's, by rank."""
        if len(compute_s) < 2:
            return
        slowest = max(range(len(compute_s)), key=compute_s.__getitem__)
        others = [took_s for rank, took_s in enumerate(compute_s) if rank != slowest]
        self._slowest.append((slowest, compute_s[slowest] / max(statistics.median(others), 1e-9)))

    def straggler(self) -> tuple[int, float] | None:
        """A rank that is slow in most of the last steps, and by how much; None if there is none."""
        slow = Counter(rank for rank, ratio in self._slowest if ratio >= SLOW_RATIO)
        if not slow:
            return None
        rank, times = slow.most_common(1)[0]
        if times < WINDOW_STEPS // 2:
            return None
        return rank, statistics.median(ratio for at, ratio in self._slowest if at == rank)
