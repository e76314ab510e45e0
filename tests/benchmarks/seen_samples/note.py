"""Notes which samples a worker reads for which step, where its batches are made: not by formula."""

import json
import os
from pathlib import Path

from torch import Tensor

from runtime.train.data import Samples
from runtime.train.loop import Training, Wish

FOLDER = "ATOLL_BENCH_SEEN"  # in the environment: where to


def note_samples() -> None:
    """From now on, a line per batch: before the step can be applied."""
    out = (Path(os.environ[FOLDER]) / f"seen-{os.getpid()}").open("a", buffering=1)
    take_step, read_batch = Training._train_step, Samples.batch
    at_work: list[Training] = []

    def step(self: Training) -> Wish:
        at_work.append(self)
        try:
            return take_step(self)
        finally:
            at_work.clear()

    def batch(self: Samples, samples: list[int]) -> tuple[Tensor, Tensor]:
        for one in at_work:
            line = {"epoch": one.epoch, "step": one.step + 1, "rank": one.strategy.rank,
                    "samples": samples, "of": len(self)}  # fmt: skip
            out.write(json.dumps(line) + "\n")
        return read_batch(self, samples)

    Training._train_step = step  # type: ignore[method-assign]
    Samples.batch = batch  # type: ignore[method-assign]
