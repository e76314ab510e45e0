"""Steps as fast as they go, in one of three ways: a bare loop, accelerate's, and HF's Trainer.

All train the same model on the same noise in memory, by torch's DistributedDataParallel on gloo.
The first rank writes when each step was applied, at the end. `extra`: `way` and `steps`.
"""

# B batch, T tokens, V vocabulary
# ruff: noqa: N803, N806

import json
import os
import time

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from tests.benchmarks.rivals.work import Work

SAMPLES = 512
ENDS = "ends.json"


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


def loss_of(model: nn.Module, tokens_BT: Tensor) -> Tensor:
    """Mean over all tokens."""
    logits_BTV = model(tokens_BT[:, :-1])
    return cross_entropy(logits_BTV.flatten(0, 1), tokens_BT[:, 1:].flatten())


def bare(work: Work, steps: int) -> list[float]:
    """Nothing that training can do without."""
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    noise = Noise(work).tokens_NT
    model = work.model()
    optimizer = work.optimizer(model)
    wrapped = DistributedDataParallel(model)
    share = work.global_batch // world
    ends = []
    for step in range(steps):
        first = (step * work.global_batch + rank * share) % (SAMPLES - share)
        optimizer.zero_grad(set_to_none=False)
        loss_of(wrapped, noise[first : first + share]).backward()  # type: ignore[no-untyped-call]
        work.apply(model, optimizer)
        ends.append(time.time())
    dist.destroy_process_group()
    return ends


def accelerate(work: Work, steps: int) -> list[float]:
    """As its documentation shows."""
    from accelerate import Accelerator  # type: ignore[import-not-found]

    accelerator = Accelerator(cpu=True)
    model = work.model()
    share = work.global_batch // accelerator.num_processes
    loader = DataLoader(Noise(work), batch_size=share, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, work.optimizer(model), loader)
    ends: list[float] = []
    while len(ends) < steps:
        for tokens in loader:
            optimizer.zero_grad()
            accelerator.backward(loss_of(model, tokens))
            accelerator.clip_grad_norm_(model.parameters(), work.clip_norm)
            optimizer.step()
            ends.append(time.time())
            if len(ends) == steps:
                break
    accelerator.end_training()
    return ends


def trainer(work: Work, steps: int) -> list[float]:
    """With all that it writes and reports off."""
    from transformers import (
        Trainer,
        TrainerCallback,
        TrainerControl,
        TrainerState,
        TrainingArguments,
    )

    ends: list[float] = []

    class Ends(TrainerCallback):
        def on_step_end(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
        ) -> None:
            ends.append(time.time())

    world = int(work.extra["world"])
    arguments = TrainingArguments(
        output_dir=str(work.folder / "trainer"),
        per_device_train_batch_size=work.global_batch // world,
        max_steps=steps,
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
        model, arguments, data_collator=together, train_dataset=Noise(work), callbacks=[Ends()]
    ).train()
    return ends


WAYS = {"bare": bare, "accelerate": accelerate, "trainer": trainer}


def main() -> None:
    """Train and tell."""
    work = Work.told()
    ends = WAYS[work.extra["way"]](work, int(work.extra["steps"]))
    if os.environ["RANK"] == "0":  # by torchrun's word: the group may be gone
        (work.folder / ENDS).write_text(json.dumps(ends))


if __name__ == "__main__":
    main()
