"""From a kill to the next applied step on the survivors: 4 nodes, default model, random phases.

Kills of a worker, of rank 0's whole node, and frozen nodes, on a folder or, by `--place s3`, on a
store that is far away; torchrun and torchft do the same work in between. A figure is the time
beyond one normal step. The first step counted is one that the new epoch applied, never one that was
on its way.
"""

import argparse
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

from runtime.node_spec import TrainSpec
from tests.benchmarks import rival_pools
from tests.benchmarks.figures import Figure, Goal, figure, rival, run
from tests.benchmarks.recovery_times import PHASES, Change, joins, loss, normal_step_s
from tests.benchmarks.rival_pools import DEFAULT, SHORT, RivalPool
from tests.benchmarks.training_pool import (
    NODES,
    Harm,
    Line,
    Place,
    Pool,
    default_spec,
    folder_place,
    pool_at,
    slow_s3_place,
    some_phase,
)

SEED = 4
ROUNDS = 5
KILLS = 6  # of each kind and round: 30 in all
FREEZES = 1
RIVAL_ROUND = 2  # between ours: theirs take far longer
RIVAL_KILLS = 5
OVERHEAD_S = 0.5
SLOW_S = 2.0  # the nodes' words are shown
BEST_RIVAL_SHARE = 0.2  # of the best rival's time
PLACES: dict[str, Callable[[], AbstractContextManager[Place]]] = {
    "folder": folder_place,
    "s3": slow_s3_place,
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of one harm to us."""

    kind: str
    change: Change
    pids_changed: int


@dataclass(slots=True)
class RivalSeen:
    """What came of a rival's kills."""

    name: str
    version: str
    overheads_s: list[float] = field(default_factory=list)
    steps_lost: list[float] = field(default_factory=list)
    tries: int = 0


def measure(at: str, is_quick: bool) -> Sequence[Figure]:
    """All figures of one place; a quick run has one round with a kill of each kind."""
    load = os.getloadavg()[0]
    dice = random.Random(SEED)
    spec = default_spec()
    found: list[Seen] = []
    back: list[Change] = []
    rivals: dict[str, RivalSeen] = {}
    for number in range(1 if is_quick else ROUNDS):
        with PLACES[at]() as stores, pool_at(stores, spec) as pool:
            name = stores.name
            pool.begin(f"run-{number}")
            seen, joined = one_round(pool, 1 if is_quick else KILLS, FREEZES, dice)
            found += seen
            back += joined
        if is_quick or number == RIVAL_ROUND:
            for their in rival_round(spec, 1 if is_quick else RIVAL_KILLS, dice):
                add(rivals, their)
    told = [figure("load average before it began", "", [load])]
    told += figures_of(name, found, back, [*rivals.values()], spec.watchdog_s)
    return [*told, *(rival_figure(one) for one in rivals.values())]


def one_round(
    pool: Pool, kills: int, freezes: int, dice: random.Random
) -> tuple[list[Seen], list[Change]]:
    """Harm upon harm, all members back in before the next."""
    harms: list[tuple[str, Harm, int]] = []
    kinds = ["worker", "rank 0's node"] * kills + ["frozen node"] * freezes
    for kind in kinds:
        some_phase(dice)
        index = 0 if kind == "rank 0's node" else dice.randrange(NODES)
        match kind:
            case "worker":
                harm = pool.kill_worker(index)
            case "rank 0's node":
                harm = pool.kill_node(index)
            case _:
                harm = frozen(pool, index)
        pool.until_next(harm.epoch)
        pool.until_settled(NODES)
        others = pool.others(index)
        harms.append((kind, harm, sum(others[node] != pid for node, pid in harm.pids.items())))
    pool.rest()
    records, steps, lines = pool.records(), pool.steps(), pool.lines()
    seen = [Seen(kind, loss(harm, records, steps, lines), pids) for kind, harm, pids in harms]
    for one in seen:
        tell_slow(one, lines)
    return seen, list(joins(records, steps, lines))


def tell_slow(seen: Seen, lines: Sequence[Line]) -> None:
    """What the nodes said while a kill took far too long."""
    change = seen.change
    if seen.kind == "frozen node" or change.overhead_s < SLOW_S:
        return
    print(f"{seen.kind}, epoch {change.before}: {change.overhead_s:.1f} s beyond a normal step")
    for line in lines:
        if change.began_s - 1 < line.at_s < change.began_s + change.gap_s:
            print(f"{line.at_s - change.began_s:8.3f} {line.node} {line.text}")


def frozen(pool: Pool, index: int) -> Harm:
    """A node that stands still until the others have gone on without it."""
    harm = pool.freeze(index)
    try:
        pool.until_settled(NODES - 1)
    finally:
        pool.thaw(index)
    return harm


def rival_round(spec: TrainSpec, kills: int, dice: random.Random) -> Iterator[RivalSeen]:
    """Each rival, from its start."""
    made: list[AbstractContextManager[RivalPool]] = [
        rival_pools.torchrun(spec),
        *(rival_pools.torchft(spec, timeouts) for timeouts in (DEFAULT, SHORT)),
    ]
    for one in made:
        with one as pool:
            yield kills_of(pool, kills, dice)


def kills_of(pool: RivalPool, kills: int, dice: random.Random) -> RivalSeen:
    """Kill ranks of a rival; one that does not come back is not killed again."""
    seen = RivalSeen(pool.name, pool.version)
    rival_pools.begin(pool)
    for _ in range(kills):
        some_phase(dice)
        rank = dice.randrange(NODES)
        at_s = rival_pools.kill_rank(pool, rank)
        rival_pools.bring_back(pool, rank)
        seen.tries += 1
        applied = rival_pools.next_applied(pool, at_s)
        if applied is None:
            break
        before = [
            event
            for event in rival_pools.events(pool.folder)
            if event.name == "applied" and event.at_s < at_s and event.rank == applied.rank
        ]
        steps = [{"at": event.at_s} for event in sorted(before, key=lambda event: event.at_s)]
        seen.overheads_s.append(applied.at_s - at_s - normal_step_s(steps))
        seen.steps_lost.append(float(max(event.step for event in before) - applied.step + 1))
        try:
            rival_pools.until_settled(pool, NODES, time.time())
        except TimeoutError:
            break
    return seen


def add(rivals: dict[str, RivalSeen], seen: RivalSeen) -> None:
    """One round to the others."""
    known = rivals.setdefault(seen.name, RivalSeen(seen.name, seen.version))
    known.overheads_s += seen.overheads_s
    known.steps_lost += seen.steps_lost
    known.tries += seen.tries


def figures_of(
    name: str,
    seen: Sequence[Seen],
    back: Sequence[Change],
    rivals: Sequence[RivalSeen],
    watchdog_s: float,
) -> Iterator[Figure]:
    """Of all harm done at one place."""
    killed = [one for one in seen if one.kind != "frozen node"]
    ours = [one.change.overhead_s for one in killed]
    middle = figure("", "s", ours).value
    theirs = [
        rival(one.name, one.version, figure("", "s", one.overheads_s).value, middle)
        for one in rivals
        if one.overheads_s
    ]
    for kind in ("worker", "rank 0's node"):
        values = [one.change.overhead_s for one in killed if one.kind == kind]
        title = f"{name}: kill -9 of {kind} → next step, beyond a normal one"
        yield figure(title, "s", values, Goal(below=OVERHEAD_S), theirs)
    yield figure(f"{name}: the longest of all kills", "s", [max(ours)], Goal(below=OVERHEAD_S))
    if theirs:
        best = min(one.value for one in theirs)
        title = f"{name}: that of all kills, by the best rival's"
        yield figure(title, "", [middle / best], Goal(below=BEST_RIVAL_SHARE))
    changed = float(sum(one.pids_changed for one in seen))
    yield figure(f"{name}: survivors' processes that changed", "", [changed], Goal(exactly=0))
    lost = [float(one.change.steps_lost) for one in killed]
    yield figure(f"{name}: applied steps taken again, per kill", "", lost, Goal(below=2))
    for phase in PHASES:
        values = [one.change.phases[phase] for one in killed if phase in one.change.phases]
        if values:
            yield figure(f"{name}: of a kill, {phase}", "s", values)
    yield figure(f"{name}: of a kill, first step", "s", [one.change.first_step_s for one in killed])
    steps = [one.change.normal_s for one in killed]
    yield figure(f"{name}: a normal step", "s", steps)
    stood = [one.change.gap_s for one in seen if one.kind == "frozen node"]
    if stood:
        title = f"{name}: SIGSTOP of a node → next step"
        yield figure(title, "s", stood, Goal(below=2 * watchdog_s))
    joined = [one.overhead_s for one in back]
    if joined:
        yield figure(f"{name}: stall when the lost one is back, beyond a normal step", "s", joined)


def rival_figure(seen: RivalSeen) -> Figure:
    """A rival's own spread, and how often it did not come back."""
    gone = seen.tries - len(seen.overheads_s)
    lost = max(seen.steps_lost, default=0.0)
    title = (
        f"{seen.name}: kill -9 of a worker → next step, beyond a normal one; "
        f"{gone} of {seen.tries} not within {rival_pools.COME_BACK_S:.0f} s, "
        f"at most {lost:.0f} steps taken again"
    )
    return figure(title, "s", seen.overheads_s or [rival_pools.COME_BACK_S])


if __name__ == "__main__":
    more = argparse.ArgumentParser(add_help=False)
    more.add_argument("--place", choices=PLACES, default="folder", help="where the stores are")
    known, _ = more.parse_known_args()
    run(f"recovery_{known.place}", partial(measure, known.place), parents=[more])
