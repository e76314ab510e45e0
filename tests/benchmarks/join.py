"""A newcomer joins a running world of three: the survivors' longest time without an applied step.

It counts from the pause: before, the newcomer imports torch and reads its data, which shares the
cores and slows the steps of the others; that is told apart. torchft's newcomer heals from a live
peer; its survivors' longest time is taken from when the newcomer has its manager.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from tests.benchmarks import rival_pools
from tests.benchmarks.figures import Figure, Goal, figure, rival, run
from tests.benchmarks.recovery_times import Change, joins, normal_step_s
from tests.benchmarks.rival_pools import DEFAULT, SHORT, RivalPool
from tests.benchmarks.training_pool import NODES, Pool, default_spec, folder_place, pool_at

REPEATS = 5
STALL_S = 0.5
NEWCOMER = NODES - 1
AFTERWARDS_S = 5.0  # a newcomer's stall may come in two parts: the quorum, then the state


def measure(is_quick: bool) -> Sequence[Figure]:
    """All figures; a quick run has one newcomer each."""
    load = os.getloadavg()[0]
    spec = default_spec()
    repeats = 1 if is_quick else REPEATS
    with folder_place() as place, pool_at(place, spec) as pool:
        pool.begin("run-join")
        changes, importing = newcomers(pool, repeats)
    theirs = {}
    for timeouts in (DEFAULT, SHORT):
        with rival_pools.torchft(spec, timeouts) as their_pool:
            theirs[their_pool.name] = stalls(their_pool, repeats)
    return [figure("load average before it began", "", [load]), *told(changes, importing, theirs)]


def told(
    changes: Sequence[Change], importing: Sequence[float], theirs: Mapping[str, Sequence[float]]
) -> Iterator[Figure]:
    """Ours with its phases, and theirs."""
    ours = [change.overhead_s for change in changes]
    middle = figure("", "s", ours).value
    rivals = [
        rival(name, rival_pools.TORCHFT, figure("", "s", values).value, middle)
        for name, values in theirs.items()
    ]
    title = "survivors' longest stall, beyond a normal step"
    yield figure(title, "s", ours, Goal(below=STALL_S), rivals)
    for phase in ("agree", "form", "fetch"):
        yield figure(f"of it, {phase}", "s", [change.phases[phase] for change in changes])
    yield figure("of it, first step", "s", [change.first_step_s for change in changes])
    yield figure("a normal step of three", "s", [change.normal_s for change in changes])
    yield figure("longest step while the newcomer imports, by a normal one", "", importing)
    for name, values in theirs.items():
        yield figure(f"{name}: {title}", "s", values)


def newcomers(pool: Pool, repeats: int) -> tuple[list[Change], list[float]]:
    """Take the last node away and let it come again; also how slow steps are while it imports."""
    began: list[float] = []
    for _ in range(repeats):
        pool.nodes[NEWCOMER].kill()
        pool.until_settled(NODES - 1)
        began.append(time.time())
        pool.start(NEWCOMER)
        pool.until_settled(NODES)
    pool.rest()
    records, steps, lines = pool.records(), pool.steps(), pool.lines()
    changes = list(joins(records, steps, lines))
    importing = []
    for change, began_s in zip(changes, began, strict=True):
        before = steps[change.before]
        undisturbed = [line for line in before if line["at"] < began_s]
        during = [line["step_s"] for line in before if line["at"] >= began_s]
        importing.append(max(during) / normal_step_s(undisturbed))
    return changes, importing


def stalls(pool: RivalPool, repeats: int) -> list[float]:
    """torchft's: survivors' longest time between two commits around a newcomer, less a step."""
    found = []
    rival_pools.begin(pool)
    for _ in range(repeats):
        rival_pools.kill_rank(pool, NEWCOMER)
        rival_pools.until_settled(pool, NODES - 1, time.time())
        began_s = time.time()
        pool.start(NEWCOMER)
        rival_pools.until_settled(pool, NODES, began_s)
        told = sorted(rival_pools.events(pool.folder), key=lambda event: event.at_s)
        ready_s = next(e.at_s for e in told if e.rank == NEWCOMER and e.at_s > began_s)
        applied = [e.at_s for e in told if e.rank == 0 and e.name == "applied"]
        normal_s = normal_step_s([{"at": at_s} for at_s in applied if at_s < began_s])
        around = [
            later - sooner
            for sooner, later in pairwise(applied)
            if later > ready_s and sooner < ready_s + AFTERWARDS_S
        ]
        found.append(max(around) - normal_s)
    return found


if __name__ == "__main__":
    run("join", measure)
