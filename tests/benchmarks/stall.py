"""What a checkpoint costs training: the step that saves, and all steps while it is written.

About 300 MB of state, one worker on the CPU. Ours against `torch.save` and both kinds of
`torch.distributed.checkpoint.async_save`, whose stagers keep their buffers as ours does. They take
turns in one process. A method's loss is its stall and what the steps until it has written take
beyond the median of the quiet steps just before. Ours also hashes, reads back and deletes, as it
does in the middle of a run; the others' old checkpoints are deleted for them, between turns.
Other load on the machine spoils this: it is told with the figures.
"""

import os
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType, async_save
from torch.nn.functional import cross_entropy

from runtime.checkpoint import Recipe, newest_sound
from runtime.checkpoint.interval import Cadence
from runtime.model.decoder import Decoder, DecoderShape
from runtime.node_spec import ModelSpec, TrainSpec
from runtime.objects import file_url, open_store
from runtime.train.committer import Committer, Stages
from runtime.train.optimizer import apply, build_optimizer
from runtime.train.state import tensors_of
from runtime.train.writing import Writer
from tests.benchmarks.figures import Figure, Goal, Rival, figure, rival, run

SHAPE = ModelSpec(
    vocabulary=12288, width=512, layers=6, heads=8, kv_heads=8, hidden=1408, context=256
)
BATCH, TOKENS = 4, 128
QUIET_STEPS = 7
AFTER_STEPS = 3  # at least, also when the writing took none
REPEATS = 5
STALL_PERCENT_MAX = 5.0
RUN = "run-stall"


class Method(Protocol):
    """A way to save."""

    def save(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """What training waits for."""

    def is_writing(self) -> bool:
        """Whether it is not in the store yet."""


@dataclass(slots=True)
class Lost:
    """What one method's saves cost, milliseconds."""

    stalls: list[float] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)  # from the call to the end of the writing
    first_stall: float = 0.0  # apart: it takes its memory then


class Trainer:
    """A model that trains on noise."""

    def __init__(self) -> None:
        self.model = Decoder(DecoderShape(**SHAPE.model_dump()))
        self.model.init(torch.Generator().manual_seed(0))
        self.spec = TrainSpec(
            model_name="stall", model=SHAPE, data="none", nodes=1, min_nodes=1, steps=10_000,
            global_batch=BATCH, micro_batch=BATCH, sequence_tokens=TOKENS, learning_rate=1e-4,
            warmup_steps=10, weight_decay=0.1, clip_norm=1.0, seed=0, watchdog_s=5,
            checkpoint_every_steps=1000, validate_every_steps=1000, join_s=1, pause_s_max=1,
            unsaved_s_max=600,
            threads_per_worker=1,
        )  # fmt: skip
        self.optimizer = build_optimizer(self.model, self.spec)
        self.tensors = tensors_of(self.model, self.optimizer)
        self.step = 0
        generator = torch.Generator().manual_seed(1)
        self._tokens = torch.randint(SHAPE.vocabulary, (BATCH, TOKENS + 1), generator=generator)

    @property
    def state_bytes(self) -> int:
        """Weights and both moments."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def train(self) -> float:
        """One step; how many milliseconds it took."""
        began = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=False)
        logits = self.model(self._tokens[:, :-1])
        loss = cross_entropy(logits.flatten(0, 1), self._tokens[:, 1:].flatten())
        torch.autograd.backward(loss)
        apply(self.optimizer, self.step, self.spec)
        self.step += 1
        return (time.perf_counter() - began) * 1e3


class Ours:
    """A committer, as a worker has it."""

    def __init__(self, folder: Path, trainer: Trainer) -> None:
        self._store = open_store(file_url(folder))
        self.writer = Writer()
        stages = Stages()
        stages.prepare(trainer.tensors)
        self._committer = Committer(
            self._store,
            RUN,
            (0,),
            recipe=Recipe.of(trainer.spec, "d", "t"),
            writer=self.writer,
            stages=stages,
            clock=lambda: datetime.now(UTC),
            seconds=time.monotonic,
            nonce=lambda: secrets.token_hex(4),
            note=_fail,
            before=lambda: None,
            cadence=Cadence(every_steps=1000, nodes=1),
            unsaved_s_max=600.0,
            grace_s=0.0,
        )

    def save(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Stage."""
        self._committer.start(step, step, tensors)
        self._step = step

    def is_writing(self) -> bool:
        """Until it is committed and old ones are gone."""
        if self._committer.is_writing:
            return True
        newest = newest_sound(self._store, RUN, [0])
        assert newest is not None
        assert newest.step == self._step, "it must have been written to count"
        return False


class TorchSave:
    """One file; training waits."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """All of it."""
        torch.save(dict(tensors), self._folder / f"{step}.pt")

    def is_writing(self) -> bool:
        """Never: it has waited."""
        _empty(self._folder)
        return False


class AsyncSave:
    """torch.distributed.checkpoint.async_save with a stager that keeps its buffers."""

    def __init__(self, folder: Path, kind: AsyncCheckpointerType) -> None:
        self._folder = folder
        self._kind = kind
        # Without a GPU neither pinned memory nor asynchronous staging is to be had.
        self._stager = DefaultStager(
            StagingOptions(
                use_pinned_memory=False,
                use_shared_memory=kind == AsyncCheckpointerType.PROCESS,
                use_async_staging=False,
                use_non_blocking_copy=False,
            )
        )
        self._answer: Future[object] | None = None

    def save(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Stage and hand over."""
        answer = async_save(
            dict(tensors),
            checkpoint_id=self._folder / str(step),
            async_checkpointer_type=self._kind,
            async_stager=self._stager,
        )
        assert isinstance(answer, Future), "staging waits, so the answer is of the writing"
        self._answer = answer

    def is_writing(self) -> bool:
        """Until its metadata is written."""
        assert self._answer is not None
        if not self._answer.done():
            return True
        self._answer.result()
        _empty(self._folder)
        return False


def measure(is_quick: bool) -> Sequence[Figure]:
    """All figures; with a core to spare, and with none."""
    repeats = 2 if is_quick else REPEATS
    with tempfile.TemporaryDirectory(prefix="atoll-bench-", ignore_cleanup_errors=True) as name:
        dist.init_process_group("gloo", init_method=f"file://{name}/group", rank=0, world_size=1)
        figures = [*_told(Path(name), 1, repeats), *_told(Path(name), 2, repeats)]
        dist.destroy_process_group()
    load = os.getloadavg()[0]
    return [*figures, figure("load average at the end, this benchmark's included", "", [load])]


def _told(root: Path, threads: int, repeats: int) -> list[Figure]:
    torch.set_num_threads(threads)
    trainer = Trainer()
    folders = {kind: root / f"{kind}-{threads}" for kind in ("ours", "save", "thread", "process")}
    for folder in folders.values():
        folder.mkdir()
    ours = Ours(folders["ours"], trainer)
    methods: dict[str, Method] = {
        "ours": ours,
        "torch.save": TorchSave(folders["save"]),
        "async_save, thread": AsyncSave(folders["thread"], AsyncCheckpointerType.THREAD),
        "async_save, process": AsyncSave(folders["process"], AsyncCheckpointerType.PROCESS),
    }
    lost = {name: Lost() for name in methods}
    steps: list[float] = []
    for repeat in range(repeats + 1):
        for name, method in methods.items():
            base, stall, total, write = _save_once(trainer, method)
            if repeat == 0:
                lost[name].first_stall = stall
                continue
            steps.append(base)
            lost[name].stalls.append(stall)
            lost[name].totals.append(total)
            lost[name].writes.append(write)
    ours.writer.stop()
    return _figures(lost, steps, f"{threads} thread{'s' * (threads > 1)}", trainer.state_bytes)


def _save_once(trainer: Trainer, method: Method) -> tuple[float, float, float, float]:
    """Quiet steps, a save, and the steps until it is written: base, stall, total, write."""
    base = statistics.median([trainer.train() for _ in range(QUIET_STEPS)])
    began = time.perf_counter()
    method.save(trainer.step, trainer.tensors)
    stall = (time.perf_counter() - began) * 1e3
    total, write, after = stall, 0.0, 0
    is_writing = True
    while is_writing or after < AFTER_STEPS:
        total += trainer.train() - base
        after += 1
        if is_writing:
            write = (time.perf_counter() - began) * 1e3
            is_writing = method.is_writing()
    return base, stall, total, write


def _figures(
    lost: Mapping[str, Lost], steps: Sequence[float], threads: str, state_bytes: int
) -> list[Figure]:
    base = statistics.median(steps)
    others = [name for name in lost if name != "ours"]
    what = f"{state_bytes / 1e6:.0f} MB state, {threads}"
    middle = {
        name: (statistics.median(one.stalls), statistics.median(one.totals))
        for name, one in lost.items()
    }
    stall, total = middle["ours"]
    half = min(middle[name][1] for name in others) / 2
    percent = [value / base * 100 for value in lost["ours"].stalls]

    def against(at: int, ours: float) -> list[Rival]:
        return [rival(name, torch.__version__, middle[name][at], ours) for name in others]

    return [
        figure(f"step, no save ({what})", "ms", steps),
        figure(f"stall of a save ({what})", "ms", lost["ours"].stalls, None, against(0, stall)),
        figure(f"stall by the step ({what})", "%", percent, Goal(below=STALL_PERCENT_MAX)),
        figure(f"first stall, which takes its memory ({what})", "ms", [lost["ours"].first_stall],
               None, [rival(n, torch.__version__, lost[n].first_stall, lost["ours"].first_stall)
                      for n in others]),
        figure(f"time lost in all ({what})", "ms", lost["ours"].totals, Goal(below=half),
               against(1, total)),
        figure(f"from the save to the commit, to a step ({what})", "ms", lost["ours"].writes, None,
               [rival(n, torch.__version__, statistics.median(lost[n].writes),
                      statistics.median(lost["ours"].writes)) for n in others]),
    ]  # fmt: skip


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _fail(why: str) -> None:
    if why:
        raise AssertionError(why)


if __name__ == "__main__":
    run("stall", measure)
