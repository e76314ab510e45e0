"""Each sample exactly once per pass, through kills and through worlds of 4, 2 and 3 members.

Workers note the samples that they read, before the step they are for can be applied. What counts is
what the run kept: of an epoch, its steps up to the one that the next epoch resumes from. accelerate
is started anew with the other number of processes: once as its documentation has it (batches per
process), once with the global batch kept (`split_batches`).
"""

import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from infra.checkout import ROOT
from runtime.coordination.log import EpochRecord
from runtime.node_spec import TrainSpec
from tests.benchmarks import rival_pools
from tests.benchmarks.figures import Figure, Goal, figure, run
from tests.benchmarks.rival_pools import (
    ACCELERATE,
    TorchRun,
    kill_rank,
    until_settled,
    whole_lines,
)
from tests.benchmarks.seen_samples.note import FOLDER
from tests.benchmarks.training_pool import START_S, Pool, folder_place, pool_at, some_phase
from tests.tiny import tiny_spec, write_texts

SEED = 7
REPEATS = 5
WORLDS = (4, 2, 3)
KILLS = 1  # of a worker or a node, in each world
GLOBAL_BATCH = 12  # any of these worlds divides it
SAMPLES = 480  # of a rival's pass


@dataclass(frozen=True, slots=True)
class Audit:
    """What became of whole passes."""

    passes: int
    samples: int  # of all these passes
    wrong: int  # not seen exactly once in a pass
    changes: int  # of membership, or starts of all processes


def measure(is_quick: bool) -> Sequence[Figure]:
    """All figures; a quick run has one repeat."""
    dice = random.Random(SEED)
    repeats = 1 if is_quick else REPEATS
    found: dict[str, list[Audit]] = {"ours": [], "by default": [], "split_batches": []}
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as name:
        texts = write_texts(Path(name) / "texts")
        spec = tiny_spec(texts, nodes=WORLDS[0], global_batch=GLOBAL_BATCH, steps=10_000_000)
        for _ in range(repeats):
            found["ours"].append(ours(spec, dice))
            for way in ("by default", "split_batches"):
                found[way].append(accelerated(spec, way == "split_batches", dice))
    return list(told(found))


def told(found: dict[str, list[Audit]]) -> Iterator[Figure]:
    """Ours in numbers, theirs as shares beside it: passes differ in number."""
    audits = found.pop("ours")
    wrong = [float(one.wrong) for one in audits]
    yield figure("samples not seen exactly once in a pass", "", wrong, Goal(exactly=0))
    yield figure("whole passes", "", [float(one.passes) for one in audits])
    yield figure("samples of them", "", [float(one.samples) for one in audits])
    yield figure("epochs", "", [float(one.changes) for one in audits])
    for way, theirs in found.items():
        name = f"accelerate {ACCELERATE}, {way}"
        shares = [one.wrong / one.samples for one in theirs]
        yield figure(f"{name}: share of samples not seen exactly once in a pass", "", shares)
        yield figure(f"{name}: whole passes", "", [float(one.passes) for one in theirs])


# Ours.


def ours(spec: TrainSpec, dice: random.Random) -> Audit:
    """Kills in worlds of 4, 2 and 3."""
    with folder_place() as place, tempfile.TemporaryDirectory(prefix="atoll-bench-") as seen:
        path = f"{ROOT / 'tests' / 'benchmarks' / 'seen_samples'}{os.pathsep}{ROOT}"
        place = replace(place, node_env={FOLDER: seen, "PYTHONPATH": path})
        with pool_at(place, spec) as pool:
            pool.begin("run-audit", WORLDS[0])
            here = set(range(WORLDS[0]))
            harm_some(pool, here, dice)
            for index in dice.sample(sorted(here), WORLDS[0] - WORLDS[1]):
                here.remove(index)
                pool.nodes[index].kill()
            harm_some(pool, here, dice)
            index = dice.choice(sorted(set(range(WORLDS[0])) - here))
            here.add(index)
            pool.start(index)
            harm_some(pool, here, dice)
            pool.rest()
            records = pool.records()
            steps = pool.steps_of(len(records) - 1)  # none, if it was formed just now
            last = int(steps[-1]["step"]) if steps else records[-1].resume_step
        lines = [line for path in Path(seen).iterdir() for line in whole_lines(path)]
    return audited(records, last, lines)


def harm_some(pool: Pool, here: set[int], dice: random.Random) -> None:
    """Kills in a world of this size, all back in after each."""
    pool.until_settled(len(here))
    for _ in range(KILLS):
        some_phase(dice)
        index = dice.choice(sorted(here))
        harm = pool.kill_worker(index) if dice.random() < 0.5 else pool.kill_node(index)
        pool.until_next(harm.epoch)
        pool.until_settled(len(here))


def audited(records: Sequence[EpochRecord], last: int, lines: Sequence[dict[str, object]]) -> Audit:
    """Put what counts in order and cut it into passes."""
    read: dict[tuple[object, object], dict[object, list[int]]] = {}
    for line in lines:
        ranks = read.setdefault((line["step"], line["epoch"]), {})
        samples = line["samples"]
        assert isinstance(samples, list)
        ranks.setdefault(line["rank"], []).extend(samples)
    size = lines[0]["of"]
    assert isinstance(size, int)
    order: list[int] = []
    step = 0
    for epoch, record in enumerate(records):
        assert record.resume_step == step, "no step is skipped, none counts twice"
        # A later epoch may go further back, to a checkpoint.
        until_step = min((one.resume_step for one in records[epoch + 1 :]), default=last)
        for at in range(record.resume_step + 1, until_step + 1):
            ranks = read[at, epoch]
            order += [sample for rank in sorted(ranks, key=str) for sample in ranks[rank]]
            step = at
    passes = [order[at : at + size] for at in range(0, len(order) - size + 1, size)]
    bad = sum(wrong(one, size) for one in passes)
    return Audit(len(passes), size * len(passes), bad, len(records))


def wrong(seen: Sequence[int], size: int) -> int:
    """Of all samples, those not seen exactly once."""
    counts = Counter(seen)
    return sum(counts[sample] != 1 for sample in range(size))


# accelerate's.


def accelerated(spec: TrainSpec, is_split: bool, dice: random.Random) -> Audit:
    """The same kills, and a start of all processes with each number."""
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as name:
        folder = Path(name)
        for start, world in enumerate(WORLDS):
            with started(spec, folder, start, world, is_split) as pool:
                for _ in range(KILLS):
                    some_phase(dice)
                    at_s = kill_rank(pool, dice.randrange(world))
                    until_settled(pool, world, at_s)
        lines = [line for path in folder.glob("seen-*") for line in whole_lines(path)]
    lives: dict[str, int] = {}
    for line in sorted(lines, key=lambda line: line["at"]):
        lives.setdefault(line["life"], line["began"])
    ends = [*list(lives.values())[1:], max(line["step"] for line in lines)]
    until_step = dict(zip(lives, ends, strict=True))
    passes: dict[int, list[int]] = {}
    for line in lines:
        if line["step"] <= until_step[line["life"]]:
            passes.setdefault(line["pass"], []).extend(line["samples"])
    whole = [passes[number] for number in sorted(passes)][:-1]
    bad = sum(wrong(one, SAMPLES) for one in whole)
    return Audit(len(whole), SAMPLES * len(whole), bad, len(lives))


@contextmanager
def started(
    spec: TrainSpec, folder: Path, start: int, world: int, is_split: bool
) -> Iterator[TorchRun]:
    """So many processes at work; killed at the end."""
    extra = {"samples": str(SAMPLES), "steps": "0", "start": str(start), "nodes": str(WORLDS[0])}
    extra |= {"is_split": str(int(is_split))}
    with rival_pools.accelerated("accelerated", spec, folder, world, extra) as pool:
        pool.start(0)
        until_settled(pool, world, time.time(), START_S)
        yield pool


if __name__ == "__main__":
    run("audit", measure)
