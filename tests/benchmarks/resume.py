"""Killed twice within a pass, a run ends with the very bytes of one that nobody disturbed.

Two nodes, both needed, so that the world is the same before and after. A worker, a node, or both
nodes at once are killed at random steps: what is gone comes from the other one's memory, or from
the last checkpoint. What is compared is the SHA-256 of weights and moments after the last step.
accelerate starts anew from its last saved state, every 10 steps as ours.
"""

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

from runtime import checkpoint
from runtime.checkpoint.manifest import Manifest
from runtime.coordination.log import epoch_log
from runtime.node_spec import TrainSpec
from runtime.train.data import open_data
from tests.benchmarks import rival_pools
from tests.benchmarks.figures import Figure, Goal, figure, rival, run
from tests.benchmarks.rival_pools import ACCELERATE, events, kill_rank, until
from tests.benchmarks.rivals.work import DIGEST
from tests.benchmarks.training_pool import Pool, folder_place, pool_at, some_phase
from tests.tiny import tiny_spec, write_texts

SEED = 6
NODES = 2
RUNS = 20
RIVAL_RUNS = 5
STEPS = 2000
KILLS = 2
TOKENS = 32
FILES = 600  # a pass is longer than a run
SAMPLES = 12_300  # of a rival's data: more than a run sees
RUN_S = 300.0
TITLE = "share of killed runs that end with the undisturbed run's bytes"


def measure(is_quick: bool) -> Sequence[Figure]:
    """All figures; a quick run has two runs each."""
    dice = random.Random(SEED)
    runs, rival_runs = (2, 2) if is_quick else (RUNS, RIVAL_RUNS)
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as name:
        spec = tiny_spec(
            write_texts(Path(name) / "texts", files=FILES),
            nodes=NODES, min_nodes=NODES, steps=STEPS, validate_every_steps=STEPS,
            sequence_tokens=TOKENS,
        )  # fmt: skip
        equal, epochs = ours(spec, runs, dice)
        theirs = accelerated(spec, rival_runs, dice)
    beside = rival("accelerate", ACCELERATE, sum(theirs) / len(theirs), sum(equal) / runs)
    return [
        figure(TITLE, "", [sum(equal) / runs], Goal(exactly=1), [beside]),
        figure("killed runs", "", [float(runs)]),
        figure("epochs of a killed run", "", epochs),
        figure("killed runs of accelerate", "", [float(len(theirs))]),
    ]


def ours(spec: TrainSpec, runs: int, dice: random.Random) -> tuple[list[bool], list[float]]:
    """One run undisturbed, then killed ones in the same pool; and the epochs of each."""
    with folder_place() as place, pool_at(place, spec) as pool:
        for index in range(NODES):
            pool.start(index)
        pool.claim("run-undisturbed")
        wanted = last_bytes(pool, "run-undisturbed")
        samples = len(open_data(pool.store("data"), wanted.data, pool.folder, TOKENS).train)
        assert samples >= STEPS * spec.global_batch, "a run is within one pass"
        equal, epochs = [], []
        for number in range(runs):
            name = f"run-{number}"
            pool.claim(name)
            pool.log = epoch_log(pool.control, name)
            for _ in range(KILLS):
                harm(pool, dice)
            digests = [shard.sha256 for shard in last_bytes(pool, name).shards]
            equal.append(digests == [shard.sha256 for shard in wanted.shards])
            epochs.append(float(len(pool.epochs(name))))
    return equal, epochs


def harm(pool: Pool, dice: random.Random) -> None:
    """A worker, a node, or all of them, at some time after all are at work."""
    pool.until_settled(NODES)
    some_phase(dice)
    index = dice.randrange(NODES)
    match dice.choice(("worker", "node", "all")):
        case "worker":
            epoch = pool.kill_worker(index).epoch
        case "node":
            epoch = pool.kill_node(index).epoch
        case _:
            epoch = len(pool.records()) - 1
            for node in pool.nodes.values():
                node.kill()
            for other in range(NODES):
                pool.start(other)
    pool.until_next(epoch)


def last_bytes(pool: Pool, name: str) -> Manifest:
    """What the last step's checkpoint holds, once the run has ended."""
    pool.until(lambda: pool.entry(name).outcome is not None, f"the end of {name}", RUN_S)
    assert pool.entry(name).outcome == "published", pool.entry(name).why
    store = pool.store("checkpoints")
    commit = checkpoint.commits(store, name)[-1]
    assert commit.step == STEPS, "the last one is of the last step"
    return checkpoint.read_manifest(store, name, commit)


def accelerated(spec: TrainSpec, runs: int, dice: random.Random) -> list[bool]:
    """The same by accelerate; a rank is killed, and torchrun starts all anew."""
    wanted = accelerated_run(spec, [])
    at = [[dice.randrange(least, least + STEPS // 3) for least in (STEPS // 12, STEPS // 2)]
          for _ in range(runs)]  # fmt: skip
    return [accelerated_run(spec, steps) == wanted for steps in at]


def accelerated_run(spec: TrainSpec, kills: Sequence[int]) -> str:
    """Its digest at the end."""
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as name:
        folder = Path(name)
        extra = {"samples": str(SAMPLES), "steps": str(STEPS), "start": "0", "is_split": "0"}
        extra |= {"nodes": str(NODES)}
        with rival_pools.accelerated("accelerated", spec, folder, NODES, extra) as pool:
            pool.start(0)
            for step in kills:

                def is_there(step: int = step) -> bool:
                    return any(e.name == "applied" and e.step >= step for e in events(folder))

                until(is_there, f"step {step}", RUN_S, folder)
                kill_rank(pool, 0)
            pool.wait(RUN_S)
        return (folder / DIGEST).read_text()


if __name__ == "__main__":
    run("resume", measure)
