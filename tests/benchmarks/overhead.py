"""What a step costs beyond a bare loop on torch's DistributedDataParallel: two nodes, one thread.

Ours is whole: agents, links, heartbeats, figures and comparisons of weights as in any run; only
checkpoints are far apart, which `stall` measures. accelerate and the Trainer of transformers do the
same work, with what they write off. All take turns. All have the same settings of malloc, which our
worker brings along: they make the bare loop faster too.
"""

import json
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from runtime.node_spec import ModelSpec, TrainSpec
from tests.benchmarks.figures import Figure, Goal, figure, rival, run
from tests.benchmarks.rival_pools import ACCELERATE, TorchRun, accelerate_python, work_of
from tests.benchmarks.rivals.steps import ENDS
from tests.benchmarks.training_pool import default_spec, folder_place, pool_at

NODES = 2
REPEATS = 5
WARM_UP = 0.2  # of all steps
TINY = ModelSpec(vocabulary=300, width=32, layers=1, heads=2, kv_heads=1, hidden=64, context=64)
TINY_STEPS, LONG_STEPS = 800, 50
TINY_MS_MAX = 0.3
LONG_PERCENT = 1.0
STEPS_S = 300.0
RIVALS = {
    "accelerate": ("accelerate", ACCELERATE),
    "trainer": ("HF Trainer", version("transformers")),
}


def measure(is_quick: bool) -> Sequence[Figure]:
    """All figures; a quick run has one repeat."""
    load = os.getloadavg()[0]
    repeats = 1 if is_quick else REPEATS
    long = default_spec(NODES).model_copy(
        update={"threads_per_worker": 1, "checkpoint_every_steps": 1_000_000}
        | {"validate_every_steps": 1_000_000}
    )
    tiny = long.model_copy(
        update={"model": TINY, "sequence_tokens": 32, "global_batch": 4, "micro_batch": 2}
    )
    told = [figure("load average before it began", "", [load])]
    told += sized("tiny model", tiny, TINY_STEPS, repeats)
    told += sized("long step", long, LONG_STEPS, repeats)
    return told


def sized(name: str, spec: TrainSpec, steps: int, repeats: int) -> Iterator[Figure]:
    """One size, all ways in turn."""
    took: dict[str, list[float]] = {way: [] for way in ("bare", "ours", *RIVALS)}
    for _ in range(repeats):
        for way, values in took.items():
            is_ours = way == "ours"
            values.append(ours_ms(spec, steps) if is_ours else theirs_ms(way, spec, steps))
    bare_ms = statistics.median(took["bare"])
    is_tiny = spec.model == TINY
    # Of a tiny step in time, of a long one by its length.
    scale, unit, most = (1.0, "ms", TINY_MS_MAX) if is_tiny else (100 / bare_ms, "%", LONG_PERCENT)
    beyond = {way: [(ms - bare_ms) * scale for ms in values] for way, values in took.items()}
    middle = {way: statistics.median(values) for way, values in beyond.items()}
    theirs = [rival(*RIVALS[way], middle[way], middle["ours"]) for way in RIVALS]
    least = min(most, *(middle[way] for way in RIVALS))
    yield figure(f"{name}: a bare step", "ms", took["bare"])
    title = f"{name}: beyond the bare step"
    yield figure(title, unit, [middle["ours"]], Goal(below=least), theirs)
    for way in took:
        yield figure(f"{title}, repeats of {way}", unit, beyond[way])


def ours_ms(spec: TrainSpec, steps: int) -> float:
    """Nodes as they are, until they have taken so many steps."""
    with folder_place() as place, pool_at(place, spec) as pool:
        pool.begin("run-overhead", NODES)
        pool.until(lambda: pool.step() >= steps, f"{steps} steps", STEPS_S)
        pool.rest()
        ends = [line["at"] for line in pool.steps_of(0)]
    return mean_ms(ends[:steps])


def theirs_ms(way: str, spec: TrainSpec, steps: int) -> float:
    """The same number of steps in a rival's way."""
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as name:
        folder = Path(name)
        extra = {"way": way, "steps": str(steps), "world": str(NODES)}
        work = {**work_of(spec, folder), "extra": extra}
        pool = TorchRun(
            folder, work, NODES, module="tests.benchmarks.rivals.steps", python=accelerate_python()
        )
        try:
            pool.start(0)
            pool.wait(STEPS_S)
        finally:
            pool.stop()
        return mean_ms(json.loads((folder / ENDS).read_text()))


def mean_ms(ends: Sequence[float]) -> float:
    """Of the steps after the first ones; a mean, since what comes now and then costs too."""
    warm = ends[int(len(ends) * WARM_UP) :]
    return (warm[-1] - warm[0]) / (len(warm) - 1) * 1e3


if __name__ == "__main__":
    run("overhead", measure)
