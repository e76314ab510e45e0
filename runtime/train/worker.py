"""The process that computes: told by the agent over its pipes, outlives epochs, not its agent.

`python -P -m runtime.train.worker`: commands on standard input, events on standard output, the log
on standard error. Ends by itself when its input ends.
"""

import io
import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from runtime import checkpoint
from runtime.checkpoint.interval import Cadence
from runtime.errors import Corrupt, Missing, Refused, Unavailable
from runtime.model.decoder import Decoder, DecoderShape
from runtime.node_spec import TrainSpec
from runtime.objects import open_store
from runtime.train.committer import Committer, Stages
from runtime.train.data import Data, DataManifest, open_data, prepare
from runtime.train.loop import Clock, First, Training
from runtime.train.metrics import Metrics
from runtime.train.optimizer import build_optimizer
from runtime.train.protocol import (
    COMMANDS,
    Broken,
    Epoch,
    Event,
    Failed,
    Imported,
    Noted,
    Pause,
    Ready,
    Work,
)
from runtime.train.state import copy_in, set_step, tensors_of
from runtime.train.strategy import PeerLost, Strategy
from runtime.train.strategy.ddp import Ddp
from runtime.train.strategy.local import Local
from runtime.train.text import read_corpus
from runtime.train.writing import Writer

DIGEST_BYTES = 32

log = logging.getLogger("worker")

Say = Callable[[Event], None]


class Orders:
    """What the agent has said; read in a thread, so that a pause reaches a busy worker."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[Work | Epoch] = queue.SimpleQueue()
        self.pause = threading.Event()

    def read(self, lines: Iterable[bytes]) -> None:
        """Until the agent is gone; then nobody needs this process."""
        for line in lines:
            command = COMMANDS.validate_json(line)
            if isinstance(command, Pause):
                self.pause.set()
            else:
                self.inbox.put(command)
        os._exit(0)


class Worker:
    """A run in this process."""

    def __init__(self, work: Work, say: Say, clock: Clock) -> None:
        self._work = work
        self._say = say
        self._clock = clock
        self._folder = Path(work.folder)
        self._checkpoints = open_store(work.stores.checkpoints)
        self._data_store = open_store(work.stores.data)
        corpus = read_corpus(work.train.data)
        attempt = f"{work.node}-{secrets.token_hex(4)}"
        self._data_digest = prepare(self._data_store, corpus, work.train.model.vocabulary, attempt)
        self._model = Decoder(shape_of(work.train))
        self._optimizer = build_optimizer(self._model, work.train)
        self._writer, self._stages = Writer(), Stages()

    def train(self, epoch: Epoch, orders: Orders) -> None:
        """One epoch, to whatever ends it; says what that was."""
        orders.pause.clear()
        strategy: Strategy | None = None
        metrics: Metrics | None = None
        step = epoch.resume_steps[-1]
        training: Training | None = None
        try:
            strategy = self._join(epoch)
            step, data = self._take_state(epoch, strategy)
            first = None
            if strategy.rank == 0:
                first = self._first(epoch, data.manifest)
                metrics = first.metrics
            training = Training(
                spec=self._work.train,
                epoch=epoch.number,
                model=self._model,
                optimizer=self._optimizer,
                data=data,
                strategy=strategy,
                step=step,
                clock=self._clock,
                say=self._say,
                shall_pause=orders.pause.is_set,
                first=first,
            )
            outcome: Event = training.run()
        except (PeerLost, Unavailable) as fault:
            if training is not None:
                step = training.step
                training.settle()
            log.warning("epoch %d broken at step %d: %s", epoch.number, step, fault)
            outcome = Broken(epoch=epoch.number, step=step, why=str(fault))
        finally:
            if strategy is not None:
                strategy.close()
            if metrics is not None:
                metrics.close()
        self._say(outcome)  # last: whoever hears it may end this process

    def _join(self, epoch: Epoch) -> Strategy:
        if epoch.world_size == 1:
            return Local(self._model)
        return Ddp(
            self._model,
            epoch=epoch.number,
            rank=epoch.rank,
            world_size=epoch.world_size,
            rendezvous=epoch.rendezvous,
            address=self._work.address,
        )

    def _take_state(self, epoch: Epoch, strategy: Strategy) -> tuple[int, Data]:
        """The state of the resume step: the first member reads it, the others get it from it."""
        step = epoch.resume_steps[-1]
        digest = bytearray(bytes.fromhex(self._data_digest))
        tensors = tensors_of(self._model, self._optimizer)
        if strategy.rank == 0 and step == 0:
            self._start_anew(tensors)
        elif strategy.rank == 0:
            digest = bytearray(bytes.fromhex(self._resume(epoch, step, tensors)))
        shared = torch.frombuffer(digest, dtype=torch.uint8)
        strategy.broadcast([shared, *tensors.values()])
        set_step(self._optimizer, step)
        data = open_data(
            self._data_store,
            bytes(shared.tolist()).hex(),
            self._folder / "data",
            self._work.train.sequence_tokens,
        )
        return step, data

    def _start_anew(self, tensors: dict[str, Tensor]) -> None:
        for tensor in tensors.values():
            tensor.zero_()
        self._model.init(torch.Generator().manual_seed(self._work.train.seed))

    def _resume(self, epoch: Epoch, step: int, tensors: dict[str, Tensor]) -> str:
        """Read the commit that the epoch resumes from; returns its data's digest."""
        run, store = self._work.run, self._checkpoints
        found = checkpoint.counting(checkpoint.commits(store, run), epoch.resume_steps)
        commit = next((c for c in found if c.step == step), None)
        if commit is None:
            raise Unavailable(f"{run}: found no commit of step {step} that counts")
        try:
            manifest = checkpoint.read_manifest(store, run, commit)
            copy_in(tensors, checkpoint.read(store, manifest))
        except (Corrupt, Missing) as fault:
            # Damaged since it was chosen: the next epoch's proposer checks again and goes back.
            raise Unavailable(f"commit {commit.name}: {fault}") from fault
        return manifest.data

    def _first(self, epoch: Epoch, data: DataManifest) -> First:
        run = self._work.run
        folder = self._folder / "runs" / run / str(epoch.number)
        self._stages.prepare(tensors_of(self._model, self._optimizer))
        metrics = Metrics(self._checkpoints, run, epoch.number, folder / "tensorboard")
        return First(
            commits=Committer(
                self._checkpoints,
                run,
                epoch.resume_steps,
                recipe=checkpoint.Recipe.of(self._work.train, data.digest, data.tokenizer.sha256),
                writer=self._writer,
                stages=self._stages,
                clock=self._clock.now,
                seconds=self._clock.seconds,
                nonce=lambda: secrets.token_hex(4),
                note=lambda why: self._say(Noted(why=why)),
                before=metrics.upload,  # so that no step counts whose figures are lost
                cadence=Cadence(
                    every_steps=self._work.train.checkpoint_every_steps,
                    nodes=epoch.world_size,
                    failures=epoch.number,
                ),
            ),
            metrics=metrics,
            export_to=folder / "model",
        )


def shape_of(spec: TrainSpec) -> DecoderShape:
    """The spec's model in the decoder's words."""
    return DecoderShape(**spec.model.model_dump())


def serve(orders: Orders, say: Say, clock: Clock) -> None:
    """Work on what is ordered; ends with a run that can't succeed."""
    say(Imported())
    work = orders.inbox.get()
    assert isinstance(work, Work), "the first command is the run"
    torch.set_num_threads(work.train.threads_per_worker)
    try:
        worker = Worker(work, say, clock)
        say(Ready())
        while True:
            epoch = orders.inbox.get()
            assert isinstance(epoch, Epoch), "one process, one run"
            worker.train(epoch, orders)
    except (Refused, Corrupt, Missing) as fault:
        say(Failed(why=str(fault)))


def main() -> None:
    """Wire the pipes and serve."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not break the protocol
    lock = threading.Lock()

    def say(event: Event) -> None:
        with lock:
            out.write(event.encode())
            out.flush()

    orders = Orders()
    # Unbuffered: a buffer's lock, held by a thread that reads, would abort the interpreter's end.
    lines = io.FileIO(0, "rb", closefd=False)
    threading.Thread(target=orders.read, args=(lines,), daemon=True).start()
    serve(orders, say, Clock(now=lambda: datetime.now(UTC), seconds=time.monotonic))


if __name__ == "__main__":
    main()
