"""How often to save: as rarely as the loss of what was not saved allows. Pure.

What a checkpoint costs against what a failure costs, half an interval on average, is least at
sqrt(2 x save cost x mean time between failures): Young 1974 (doi:10.1145/361147.361115), the first
term of Daly 2006 (doi:10.1016/j.future.2004.11.016), which is enough while saves are cheap.
"""

import math
import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from runtime.limits import INTERVAL_S_MAX, INTERVAL_S_MIN

Capacity = Literal["on_demand", "spot", "reservation"]
DAY_S = 86_400.0
# Mean time between failures of one node before anything is known of it. Llama 3 lost 419 times on
# 2,048 nodes in 54 days, which is 264 days per node (arXiv:2407.21783, 3.3.4); small clusters in a
# cloud are less cared for, so 30. Spot prices are asked for by reclaim rates of 5 to 20 % a month
# and worse; a day is a guess on the safe side: it costs saves, not steps.
PRIOR_S: dict[Capacity, float] = {
    "on_demand": 30 * DAY_S,
    "reservation": 30 * DAY_S,
    "spot": DAY_S,
}
STEPS_KEPT = 50
SAVES_KEPT = 5


def between_failures_s(nodes: int, failures: int, trained_s: float, capacity: Capacity) -> float:
    """Mean time between failures of a run: the prior counts as one failure already seen."""
    return (PRIOR_S[capacity] / nodes + trained_s) / (1 + failures)


def best_interval_s(save_cost_s: float, between_s: float) -> float:
    """Seconds of training from one save to the next."""
    return min(max(math.sqrt(2 * save_cost_s * between_s), INTERVAL_S_MIN), INTERVAL_S_MAX)


@dataclass(kw_only=True, slots=True)
class Cadence:
    """When the next checkpoint is due, by what the last ones cost. Told of every step."""

    every_steps: int | None  # a setting; None: by cost
    nodes: int
    failures: int = 0  # membership changes of the run so far: joins count too, on the safe side
    capacity: Capacity = "on_demand"
    _trained_s: float = 0.0
    _since_s: float = 0.0  # of training since the last save
    _quiet_s: deque[float] = field(default_factory=lambda: deque(maxlen=STEPS_KEPT))
    _costs_s: deque[float] = field(default_factory=lambda: deque(maxlen=SAVES_KEPT))

    def stepped(self, step_s: float, *, is_writing: bool) -> None:
        """A step was applied; it is slower than others while a checkpoint is written."""
        self._trained_s += step_s
        self._since_s += step_s
        if not is_writing:
            self._quiet_s.append(step_s)
        elif self._costs_s and self._quiet_s:
            self._costs_s[-1] += max(0.0, step_s - statistics.median(self._quiet_s))

    def staged(self, stall_s: float) -> None:
        """Training stood still for so long, to save."""
        self._since_s = 0.0
        self._costs_s.append(stall_s)

    def is_due(self, step: int) -> bool:
        """Whether to save after this step."""
        if self.every_steps is not None:
            return step % self.every_steps == 0
        return self._since_s >= self.interval_s

    @property
    def interval_s(self) -> float:
        """Between two saves; the first comes soon, to learn what it costs."""
        if not self._costs_s:
            return INTERVAL_S_MIN
        between_s = between_failures_s(self.nodes, self.failures, self._trained_s, self.capacity)
        return best_interval_s(statistics.median(self._costs_s), between_s)
