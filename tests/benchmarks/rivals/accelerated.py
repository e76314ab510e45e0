"""accelerate's way to go on after a loss: torchrun starts all anew, each loads the last saved state
and skips the batches that it holds, as accelerate's own checkpointing example does.

`extra`: `samples`, `steps` (0: without an end), `start` (which start of torchrun this is), and
`is_split`, whether the global batch is kept whatever the number of processes.
"""

# B batch, T tokens, V vocabulary
# ruff: noqa: N806

import hashlib
import json
import os
import sys
import time
from pathlib import Path

import torch
from accelerate import Accelerator, DataLoaderConfiguration  # type: ignore[import-not-found]
from accelerate.utils import set_seed  # type: ignore[import-not-found]
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tests.benchmarks.rivals.work import DIGEST, Trace, Work, loss_of

CHECKPOINT_STEPS = 10
NEWEST = "newest"


class Numbered(Dataset[tuple[int, Tensor]]):
    """Noise, and which sample it is."""

    def __init__(self, work: Work) -> None:
        dice = torch.Generator().manual_seed(0)
        self._size = int(work.extra["samples"])
        shape = (self._size, work.sequence_tokens + 1)
        self._tokens_NT = torch.randint(work.shape.vocabulary, shape, generator=dice)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> tuple[int, Tensor]:
        return index, self._tokens_NT[index]


def main() -> None:
    """Train to the last step, or until killed."""
    work = Work.told()
    set_seed(0)
    is_split = work.extra["is_split"] == "1"
    loading = DataLoaderConfiguration(split_batches=is_split, use_seedable_sampler=True)
    accelerator = Accelerator(cpu=True, dataloader_config=loading)
    batch = work.global_batch if is_split else work.global_batch // int(work.extra["nodes"])
    plain = work.model()
    loader = DataLoader(Numbered(work), batch_size=batch, shuffle=True)
    model, optimizer, loader = accelerator.prepare(plain, work.optimizer(plain), loader)
    began = resumed(accelerator, work.folder)
    notes = Notes(work, accelerator, began)
    step, last = began, int(work.extra["steps"]) or sys.maxsize
    number, done = divmod(began, len(loader))
    while step < last:
        loader.set_epoch(number)
        for samples, tokens_BT in accelerator.skip_first_batches(loader, done):
            notes.computes(step + 1, number, samples.tolist())
            optimizer.zero_grad()
            accelerator.backward(loss_of(model, tokens_BT))
            accelerator.clip_grad_norm_(model.parameters(), work.clip_norm)
            optimizer.step()
            step += 1
            notes.trace.tell("applied", step, accelerator.num_processes)
            if step % CHECKPOINT_STEPS == 0:
                save(accelerator, work.folder, step)
            if step == last:
                break
        number, done = number + 1, 0
    if accelerator.is_main_process:
        digest = hashlib.sha256()
        for parameter in plain.parameters():
            moments = optimizer.optimizer.state[parameter]
            for tensor in (parameter.detach(), moments["exp_avg"], moments["exp_avg_sq"]):
                digest.update(tensor.numpy().tobytes())
        (work.folder / DIGEST).write_text(digest.hexdigest())
    accelerator.end_training()


class Notes:
    """What one process does: as all rivals tell it, and which samples it computes."""

    def __init__(self, work: Work, accelerator: Accelerator, began: int) -> None:
        rank = accelerator.process_index
        self.trace = Trace(work, rank)
        self.trace.tell("ready", began, accelerator.num_processes)
        restart = os.environ["TORCHELASTIC_RESTART_COUNT"]
        self._life = {"life": f"{work.extra['start']}.{restart}", "began": began, "rank": rank}
        self._seen = (work.folder / f"seen-{rank}-{os.getpid()}").open("a", buffering=1)

    def computes(self, step: int, number: int, samples: list[int]) -> None:
        """Before the step can be applied."""
        line = {**self._life, "at": time.time(), "step": step, "pass": number, "samples": samples}
        self._seen.write(json.dumps(line) + "\n")


def save(accelerator: Accelerator, folder: Path, step: int) -> None:
    """All ranks' parts, then the word that they are there."""
    accelerator.save_state(str(folder / f"state-{step}"))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        partial = (folder / NEWEST).with_suffix(".partial")
        partial.write_text(str(step))
        partial.replace(folder / NEWEST)


def resumed(accelerator: Accelerator, folder: Path) -> int:
    """Load the newest state; returns its step, 0 if there is none."""
    if not (folder / NEWEST).exists():
        return 0
    step = int((folder / NEWEST).read_text())
    accelerator.load_state(str(folder / f"state-{step}"))
    return step


if __name__ == "__main__":
    main()
