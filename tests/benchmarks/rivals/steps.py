"""Steps as fast as they go, in one of three ways: a bare loop, accelerate's, and HF's Trainer.

All train the same model on the same noise in memory, by torch's DistributedDataParallel on gloo,
until they are killed. The first rank notes in a file when each step was applied. `extra`: `way`.
"""

import itertools
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from tests.benchmarks.rivals.work import Work, loss_of

SAMPLES = 512
STEPS_MAX = 1 << 20
ENDS = "ends"  # STEPS_MAX times as float64, 0 for those to come


class Ends:
    """When each step was applied, at the cost of a store to memory."""

    def __init__(self, folder: Path) -> None:
        is_first = os.environ["RANK"] == "0"
        name = folder / (ENDS if is_first else f"{ENDS}-others")
        self._times = np.memmap(name, dtype=np.float64, mode="w+", shape=(STEPS_MAX,))
        self._count = 0

    def add(self) -> None:
        """Now."""
        self._times[self._count] = time.time()
        self._count += 1


def applied(folder: Path) -> list[float]:
    """When each step was applied, so far."""
    if not (folder / ENDS).exists():
        return []
    times = np.fromfile(folder / ENDS, dtype=np.float64)
    return [float(at) for at in times[: np.count_nonzero(times)]]


class Noise(Dataset[Tensor]):
    """Sequences that cost what text does."""

    def __init__(self, work: Work) -> None:
        dice = torch.Generator().manual_seed(0)
        size = (SAMPLES, work.sequence_tokens + 1)
        self.tokens_NT = torch.randint(work.shape.vocabulary, size, generator=dice)

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Tensor:
        return self.tokens_NT[index]


class WithLoss(nn.Module):
    """What Trainer asks of a model: a loss."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Of a batch BT."""
        return {"loss": loss_of(self.model, tokens)}


def bare(work: Work, ends: Ends) -> None:
    """Only what training can't do without."""
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    noise = Noise(work).tokens_NT
    model = work.model()
    optimizer = work.optimizer(model)
    wrapped = DistributedDataParallel(model)
    share = work.global_batch // world
    for step in itertools.count():
        first = (step * work.global_batch + rank * share) % (SAMPLES - share)
        optimizer.zero_grad(set_to_none=False)
        loss_of(wrapped, noise[first : first + share]).backward()  # type: ignore[no-untyped-call]
        work.apply(model, optimizer)
        ends.add()


def accelerate(work: Work, ends: Ends) -> None:
    """As its documentation shows."""
    from accelerate import Accelerator  # type: ignore[import-not-found]

    accelerator = Accelerator(cpu=True)
    model = work.model()
    share = work.global_batch // accelerator.num_processes
    loader = DataLoader(Noise(work), batch_size=share, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, work.optimizer(model), loader)
    while True:
        for tokens in loader:
            optimizer.zero_grad()
            accelerator.backward(loss_of(model, tokens))
            accelerator.clip_grad_norm_(model.parameters(), work.clip_norm)
            optimizer.step()
            ends.add()


def trainer(work: Work, ends: Ends) -> None:
    """With all that it writes and reports off."""
    from transformers import (
        Trainer,
        TrainerCallback,
        TrainerControl,
        TrainerState,
        TrainingArguments,
    )

    class Noted(TrainerCallback):
        def on_step_end(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
        ) -> None:
            ends.add()

    world = int(work.extra["world"])
    arguments = TrainingArguments(
        output_dir=str(work.folder / "trainer"),
        per_device_train_batch_size=work.global_batch // world,
        max_steps=STEPS_MAX,
        learning_rate=work.learning_rate,
        max_grad_norm=work.clip_norm,
        optim="adamw_torch_fused",
        use_cpu=True,
        ddp_backend="gloo",
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )

    def together(samples: list[Tensor]) -> dict[str, Tensor]:
        return {"tokens": torch.stack(samples)}

    model = WithLoss(work.model())
    Trainer(
        model, arguments, data_collator=together, train_dataset=Noise(work), callbacks=[Noted()]
    ).train()


WAYS = {"bare": bare, "accelerate": accelerate, "trainer": trainer}


def main() -> None:
    """Train until killed."""
    work = Work.told()
    WAYS[work.extra["way"]](work, Ends(work.folder))


if __name__ == "__main__":
    main()
