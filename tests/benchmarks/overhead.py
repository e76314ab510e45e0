"""What a step costs beyond a bare loop on torch's DistributedDataParallel: two nodes, one thread.

Ours is whole: agents, links, heartbeats, figures and comparisons of weights as in any run; only
checkpoints are far apart, which `stall` measures. accelerate and the Trainer of transformers do the
same work, with what they write off. With the tiny model all are started, then each has the machine
for some seconds while the others are stopped, round after round: so what the machine does at a time
meets all alike. With long steps each is started anew in each round: a stop in the middle of large
messages lets the kernel drop some of them, and it waits ever longer before it sends those again.
All have the same settings of malloc, which our worker brings along: they help the bare loop too.
"""

import os
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from runtime.node_spec import ModelSpec, TrainSpec
from tests.benchmarks import rival_pools
from tests.benchmarks.figures import Figure, Goal, figure, rival, run
from tests.benchmarks.rival_pools import ACCELERATE, TorchRun, until
from tests.benchmarks.rivals.steps import applied
from tests.benchmarks.training_pool import (
    SETTLED_STEPS,
    START_S,
    Pool,
    default_spec,
    folder_place,
    pool_at,
)

NODES = 2
TINY_ROUNDS, LONG_ROUNDS = 12, 5
TINY = ModelSpec(vocabulary=300, width=32, layers=1, heads=2, kv_heads=1, hidden=64, context=64)
TINY_SLICE_S, LONG_SLICE_S = 2.0, 10.0  # of one way, in a round
WATCHDOG_S = 600.0  # stopped for the others' slices is not hung
TINY_MS_MAX = 0.3
LONG_PERCENT = 1.0
RIVALS = {
    "accelerate": ("accelerate", ACCELERATE),
    "trainer": ("HF Trainer", version("transformers")),
}
# Ours begins last: standing still while others begin would outlast its collectives.
WAYS = ("bare", *RIVALS, "ours")
Took = dict[str, list[float]]  # milliseconds of a step in each round, by way


def measure(is_quick: bool) -> Sequence[Figure]:
    """All figures; a quick run has two rounds."""
    load = os.getloadavg()[0]
    long = default_spec(NODES).model_copy(
        update={"threads_per_worker": 1, "checkpoint_every_steps": 1_000_000}
        | {"validate_every_steps": 1_000_000, "watchdog_s": WATCHDOG_S}
    )
    tiny = long.model_copy(
        update={"model": TINY, "sequence_tokens": 32, "global_batch": 4, "micro_batch": 2}
    )
    told = [figure("load average before it began", "", [load])]
    told += figures_of("tiny model", True, in_slices(tiny, 2 if is_quick else TINY_ROUNDS))
    told += figures_of("long step", False, in_turns(long, 2 if is_quick else LONG_ROUNDS))
    return told


def in_slices(spec: TrainSpec, rounds: int) -> Took:
    """All ways at work, one moves."""
    took: Took = {way: [] for way in WAYS}
    with ExitStack() as stack:
        made: dict[str, Contestant] = {}
        for way in WAYS:
            made[way] = stack.enter_context(begun(way, spec))
            made[way].stand_still()
        windows = [(way, moved(made[way], TINY_SLICE_S)) for _ in range(rounds) for way in WAYS]
        ends = {way: contestant.ends() for way, contestant in made.items()}
    for way, window in windows:
        took[way].append(mean_ms(ends[way], window))
    return took


def in_turns(spec: TrainSpec, rounds: int) -> Took:
    """One way after the other, none of them ever stopped."""
    took: Took = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            with begun(way, spec) as contestant:
                since_s = time.time()
                time.sleep(LONG_SLICE_S)
                took[way].append(mean_ms(contestant.ends(), (since_s, time.time())))
    return took


def figures_of(name: str, is_tiny: bool, took: Took) -> Iterator[Figure]:
    """Each round against the bare loop's of the same round."""
    bare_ms = statistics.median(took["bare"])
    # Of a tiny step in time, of a long one by its length.
    scale, unit, most = (1.0, "ms", TINY_MS_MAX) if is_tiny else (100 / bare_ms, "%", LONG_PERCENT)
    beyond = {
        way: [(ms - base) * scale for ms, base in zip(values, took["bare"], strict=True)]
        for way, values in took.items()
        if way != "bare"
    }
    middle = {way: statistics.median(values) for way, values in beyond.items()}
    theirs = [rival(*RIVALS[way], middle[way], middle["ours"]) for way in RIVALS]
    least = min(most, *(middle[way] for way in RIVALS))
    yield figure(f"{name}: a bare step", "ms", took["bare"])
    title = f"{name}: beyond the bare step"
    yield figure(f"{title}, median of rounds", unit, [middle["ours"]], Goal(below=least), theirs)
    for way, values in beyond.items():
        yield figure(f"{title}, rounds of {way}", unit, values)


class Contestant(Protocol):
    """One way to train, at work."""

    def go_on(self) -> None:
        """It has the machine."""

    def stand_still(self) -> None:
        """Others have."""

    def ends(self) -> list[float]:
        """When each step was applied; it is over then."""


class Ours:
    """Nodes as they are."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def go_on(self) -> None:
        """Agents, workers and all, unless they have ended."""
        for index, node in self._pool.nodes.items():
            if node.process.poll() is None:
                self._pool.thaw(index)

    def stand_still(self) -> None:
        """The same."""
        for index in self._pool.nodes:
            self._pool.freeze(index)

    def ends(self) -> list[float]:
        """By the figures of the only epoch."""
        epochs = len(self._pool.records())  # when they are stopped, the first to go is lost
        self.go_on()
        self._pool.rest()
        told = "\n".join(f"{line.at_s} {line.node} {line.text}" for line in self._pool.lines())
        assert epochs == 1, f"a member was lost:\n{told}"
        return [line["at"] for line in self._pool.steps_of(0)]


class Theirs:
    """A rival's way, or the bare loop."""

    def __init__(self, pool: TorchRun) -> None:
        self._pool = pool

    def go_on(self) -> None:
        """torchrun and its workers."""
        self._pool.send(signal.SIGCONT)

    def stand_still(self) -> None:
        """The same."""
        self._pool.send(signal.SIGSTOP)

    def ends(self) -> list[float]:
        """As the first rank has noted."""
        return applied(self._pool.folder)


@contextmanager
def begun(way: str, spec: TrainSpec) -> Iterator[Contestant]:
    """One at work."""
    with ExitStack() as stack:
        contestant: Contestant
        if way == "ours":
            pool = stack.enter_context(pool_at(stack.enter_context(folder_place()), spec))
            pool.begin("run-overhead", NODES)
            contestant = Ours(pool)
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="atoll-bench-")))
            extra = {"way": way, "world": str(NODES)}
            their = stack.enter_context(
                rival_pools.accelerated("steps", spec, folder, NODES, extra)
            )
            their.start(0)
            until(lambda: len(applied(folder)) >= SETTLED_STEPS, way, START_S, folder)
            contestant = Theirs(their)
        try:
            yield contestant
        finally:
            contestant.go_on()  # or it could not end


def moved(contestant: Contestant, slice_s: float) -> tuple[float, float]:
    """Let it move for so long; from when to when that was."""
    since_s = time.time()
    contestant.go_on()
    time.sleep(slice_s)
    contestant.stand_still()
    return since_s, time.time()


def mean_ms(ends: Sequence[float], window: tuple[float, float]) -> float:
    """Of the steps that began and ended in it: a mean, since what comes now and then costs."""
    since_s, until_s = window
    within = [at for at in ends if since_s < at < until_s]
    return (within[-1] - within[0]) / (len(within) - 1) * 1e3


if __name__ == "__main__":
    run("overhead", measure)
