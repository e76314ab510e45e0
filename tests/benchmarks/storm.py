"""One kill every 15 s on four nodes: what the changes of membership take of the time.

A worker or a whole node, drawn from a seed, whatever state it is in. Afterwards the same pool is
left alone for half as long, so that what the kills cost in all can be told: the steps they undo,
the processes that start again on the cores of the others.
"""

import argparse
import os
import random
import time
from collections.abc import Sequence
from functools import partial

from tests.benchmarks.figures import Figure, Goal, figure, run
from tests.benchmarks.recovery_times import PHASES, Change, joins, losses, shares
from tests.benchmarks.training_pool import (
    NODES,
    Harm,
    Pool,
    default_spec,
    folder_place,
    pool_at,
)

SEED = 5
EVERY_S = 15.0
MINUTES = 10.0
CALM = 0.3  # as long undisturbed, by the storm's length
SHARE = 0.03  # of the time, in detect, agree, form and fetch


def measure(minutes: float, is_quick: bool) -> Sequence[Figure]:
    """All figures; a quick run lasts a minute."""
    load = os.getloadavg()[0]
    minutes = 1.0 if is_quick else minutes
    with folder_place() as place, pool_at(place, default_spec()) as pool:
        pool.begin("run-storm")
        began_s = time.time()
        harms = storm(pool, began_s, minutes * 60, random.Random(SEED))
        ended_s = time.time()
        pool.until_settled(NODES)
        calm_s = time.time()
        time.sleep(minutes * 60 * CALM)
        calm_ended_s = time.time()
        pool.rest()
        records, steps, lines = pool.records(), pool.steps(), pool.lines()
    changes = [*losses(harms, records, steps, lines), *joins(records, steps, lines)]
    changes = [change for change in changes if change.began_s < ended_s]
    whole_s = ended_s - began_s
    rate = applied(steps, began_s, ended_s) / whole_s
    calm = applied(steps, calm_s, calm_ended_s) / (calm_ended_s - calm_s)
    return [
        figure("load average before it began", "", [load]),
        figure("kills", "", [float(len(harms))]),
        *figures_of(changes, whole_s),
        figure("applied steps per second, by those of an undisturbed run", "", [rate / calm]),
        figure("applied steps per second, undisturbed", "", [calm]),
    ]


def figures_of(changes: Sequence[Change], whole_s: float) -> list[Figure]:
    """Shares of the time."""
    found = shares(changes, whole_s)
    title = f"share of the time in {', '.join(PHASES)}"
    return [
        figure(title, "", [sum(found.values())], Goal(below=SHARE)),
        *(figure(f"of it, {phase}", "", [share]) for phase, share in found.items()),
        figure("membership changes with all their signs", "", [float(len(changes))]),
    ]


def storm(pool: Pool, began_s: float, lasts_s: float, dice: random.Random) -> list[Harm]:
    """Kill one every so often, whatever it is at."""
    harms = []
    for number in range(1, int(lasts_s / EVERY_S)):
        time.sleep(max(0.0, began_s + number * EVERY_S - time.time()))
        index = dice.randrange(NODES)
        is_worker = dice.random() < 0.5 and pool.worker(index) is not None
        harms.append(pool.kill_worker(index) if is_worker else pool.kill_node(index))
    time.sleep(max(0.0, began_s + lasts_s - time.time()))
    return harms


def applied(steps: Sequence[Sequence[dict[str, float]]], from_s: float, to_s: float) -> int:
    """Distinct steps applied in this time: one that is taken again counts once."""
    return len({line["step"] for epoch in steps for line in epoch if from_s <= line["at"] < to_s})


if __name__ == "__main__":
    more = argparse.ArgumentParser(add_help=False)
    more.add_argument("--minutes", type=float, default=MINUTES, help="how long the storm lasts")
    known, _ = more.parse_known_args()
    run("storm", partial(measure, known.minutes), parents=[more])
