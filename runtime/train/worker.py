"""The process that computes: told by the agent over its pipes, outlives epochs, not its agent.

`python -P -m runtime.train.worker`: commands on standard input, events on standard output, the log
on standard error. Ends by itself when its input ends.
"""

import io
import logging
import os
import secrets
import threading
import time
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from runtime import checkpoint
from runtime.checkpoint.interval import Cadence
from runtime.coordination.next_epoch import NO_STATE
from runtime.coordination.state_transfer import StateServer, fetch
from runtime.errors import Corrupt, Missing, Refused, Unavailable
from runtime.limits import STATE_BYTES_PER_S
from runtime.model.decoder import Decoder, DecoderShape
from runtime.node_spec import TrainSpec
from runtime.objects import open_store
from runtime.train.committer import Committer, Stages
from runtime.train.data import Data, open_data, prepare
from runtime.train.device import open_device
from runtime.train.loop import Clock, First, Training
from runtime.train.metrics import Lines, Metrics
from runtime.train.optimizer import build_optimizer
from runtime.train.orders import Orders, Say
from runtime.train.protocol import (
    OUT_OF_MEMORY,
    Broken,
    Epoch,
    Event,
    Failed,
    Formed,
    Imported,
    Keep,
    Noted,
    Ready,
    Work,
)
from runtime.train.state import copy_in, set_step, tensors_of, to_shards
from runtime.train.strategy import Diverged, PeerLost, Strategy
from runtime.train.strategy.ddp import Ddp
from runtime.train.strategy.local import Local
from runtime.train.text import open_corpus
from runtime.train.writing import Writer

MEMORY_ERRORS = (MemoryError, RuntimeError)  # torch.OutOfMemoryError is one of the latter
# Words in the epoch's store:
STATE_KEY = "state"  # where the state is served
DATA_KEY = "data"  # the digest of the data that a stored state goes on with
READY_KEY = "ready"  # a member has the state

log = logging.getLogger("worker")


class Worker:
    """A run in this process. What it has in memory outlives epochs."""

    def __init__(self, work: Work, say: Say, clock: Clock) -> None:
        self._work = work
        self._say = say
        self._clock = clock
        self._folder = Path(work.folder)
        self._key = bytes.fromhex(work.key)
        self._checkpoints = open_store(work.stores.checkpoints)
        self._data_store = open_store(work.stores.data)
        corpus = open_corpus(work.train.data, self._data_store)
        attempt = f"{work.node}-{secrets.token_hex(4)}"
        digest = prepare(self._data_store, corpus, work.train.model.vocabulary, attempt)
        self._data = self._open_data(digest)
        self._model = Decoder(shape_of(work.train)).to(open_device(work.train.device))
        self._optimizer = build_optimizer(self._model, work.train)
        self._step = NO_STATE  # applied in memory
        self._lines: Lines | None = None  # figures of the last epoch
        self._writer, self._stages = Writer(), Stages()
        self._committer: Committer | None = None  # of the last epoch that this one was first in

    def train(self, epoch: Epoch, orders: Orders) -> None:
        """One epoch, to whatever ends it; says what that was."""
        orders.pause.clear()
        orders.save_s = 0.0
        strategy = self._strategy(epoch)
        orders.watch(epoch.number, strategy)
        training: Training | None = None
        try:
            strategy.join()
            self._say(Formed(epoch=epoch.number, fetched=False))
            if len(epoch.holders) < epoch.world_size:
                self._take_state(epoch, strategy)
            self._say(Formed(epoch=epoch.number, fetched=True))
            lines = self._begin_lines(epoch)
            first = self._first(epoch, lines) if isinstance(lines, Metrics) else None
            training = Training(
                spec=self._work.train,
                epoch=epoch.number,
                model=self._model,
                optimizer=self._optimizer,
                data=self._data,
                strategy=strategy,
                step=self._step,
                clock=self._clock,
                say=self._say,
                shall_pause=orders.pause.is_set,
                save_s=lambda: orders.save_s,
                lines=lines,
                first=first,
            )
            outcome: Event = training.run()
        except MEMORY_ERRORS as fault:
            outcome = out_of_memory(fault)
        except (PeerLost, Unavailable) as fault:
            if training is not None:
                self._step = NO_STATE if isinstance(fault, Diverged) else training.step
            log.warning("epoch %d broken at step %d: %s", epoch.number, self._step, fault)
            outcome = Broken(epoch=epoch.number, step=self._step, why=str(fault))
        else:
            self._step = training.step
        finally:
            strategy.close()
        self._say(outcome)
        if self._lines is not None:
            self._lines.close()  # after the word: the store may be slow

    def keep(self, order: Keep) -> None:
        """Save what is in memory, beside whatever comes next."""
        assert self._lines is not None, "it has been in an epoch"
        if self._step == NO_STATE:
            return  # lost since
        # How often does not matter here: it is saved once.
        cadence = Cadence(every_steps=None, nodes=1)
        self._committer = self._committer_of(order.resume_steps, self._lines, cadence)
        samples = self._step * self._work.train.global_batch
        self._committer.start(self._step, samples, tensors_of(self._model, self._optimizer))

    def _strategy(self, epoch: Epoch) -> Strategy:
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

    def _take_state(self, epoch: Epoch, strategy: Strategy) -> None:
        """Until all members have the state: of their own, of the first holder, or of the store."""
        with ExitStack() as stack:
            if not epoch.holders:
                self._take_stored_state(epoch, strategy)
            elif epoch.rank == epoch.holders[0]:
                stack.enter_context(closing(self._serve_state(epoch, strategy)))
            elif epoch.rank not in epoch.holders:
                self._fetch_state(epoch, strategy)
            # Not in a collective: its deadline does not suit what takes longer the larger it is.
            strategy.publish(f"{READY_KEY}/{epoch.rank}", "")
            for other in range(epoch.world_size):
                if other != epoch.rank:
                    strategy.published(f"{READY_KEY}/{other}")

    def _serve_state(self, epoch: Epoch, strategy: Strategy) -> StateServer:
        """Nothing changes it until all are ready, so that it need not be copied."""
        assert self._step == epoch.resume_steps[-1], "a holder holds what the record says"
        digest = bytes.fromhex(self._data.manifest.digest)
        tensors = tensors_of(self._model, self._optimizer)
        server = StateServer(
            self._work.address,
            self._key,
            lambda: chain([digest], to_shards(tensors)),
            bytes_per_s=STATE_BYTES_PER_S,
        )
        strategy.publish(STATE_KEY, server.address)
        return server

    def _fetch_state(self, epoch: Epoch, strategy: Strategy) -> None:
        self._step = NO_STATE  # until all of it is there
        try:
            files = fetch(strategy.published(STATE_KEY), self._key)
            self._use_data(next(files).hex())
            copy_in(tensors_of(self._model, self._optimizer), files)
        except Corrupt as fault:
            raise Unavailable(str(fault)) from fault  # another epoch may have a better source
        self._holds(epoch.resume_steps[-1])

    def _take_stored_state(self, epoch: Epoch, strategy: Strategy) -> None:
        """The state of the resume step: the first member reads it, the others get it from it."""
        self._step = NO_STATE
        step = epoch.resume_steps[-1]
        tensors = tensors_of(self._model, self._optimizer)
        if strategy.rank == 0:
            digest = self._read_state(epoch, step, tensors)
            strategy.publish(DATA_KEY, digest)
        else:
            digest = strategy.published(DATA_KEY)
        strategy.broadcast(tensors.values())
        self._use_data(digest)
        self._holds(step)

    def _holds(self, step: int) -> None:
        set_step(self._optimizer, step)
        self._step = step

    @property
    def _recipe(self) -> checkpoint.Recipe:
        data = self._data.manifest
        return checkpoint.Recipe.of(self._work.train, data.digest, data.tokenizer.sha256)

    def _use_data(self, digest: str) -> None:
        """The run goes on with the data that it began with."""
        if digest != self._data.manifest.digest:
            self._data = self._open_data(digest)

    def _open_data(self, digest: str) -> Data:
        folder = self._folder / "data"
        return open_data(self._data_store, digest, folder, self._work.train.sequence_tokens)

    def _read_state(self, epoch: Epoch, step: int, tensors: dict[str, Tensor]) -> str:
        """Of a commit, or of no step; returns its data's digest."""
        if step > 0:
            return self._resume(epoch, step, tensors)
        self._start_anew(tensors)
        return self._data.manifest.digest

    def _start_anew(self, tensors: dict[str, Tensor]) -> None:
        for tensor in tensors.values():
            tensor.zero_()
        drawn = Decoder(self._model.shape)  # on the CPU, so that all devices begin alike
        drawn.init(torch.Generator().manual_seed(self._work.train.seed))
        self._model.load_state_dict(drawn.state_dict())

    def _resume(self, epoch: Epoch, step: int, tensors: dict[str, Tensor]) -> str:
        """Read the commit that the epoch resumes from; returns its data's digest."""
        run, store = self._work.run, self._checkpoints
        found = checkpoint.counting(checkpoint.commits(store, run), epoch.resume_steps)
        commit = next((c for c in found if c.step == step), None)
        if commit is None:
            raise Unavailable(f"{run}: found no commit of step {step} that counts")
        try:
            manifest = checkpoint.read_manifest(store, run, commit)
            checkpoint.refuse_mismatch(manifest, self._recipe)
            copy_in(tensors, checkpoint.read(store, manifest))
        except (Corrupt, Missing) as fault:
            # Damaged since it was chosen: the next epoch's proposer checks again and goes back.
            raise Unavailable(f"commit {commit.name}: {fault}") from fault
        return manifest.data

    def _begin_lines(self, epoch: Epoch) -> Lines:
        """The epoch's figures; the first member saves those of the epoch before, too."""
        run, before = self._work.run, self._lines
        if epoch.rank == 0:
            board = self._epoch_folder(epoch) / "tensorboard"
            self._lines = Metrics(self._checkpoints, run, epoch.number, board, before)
        else:
            self._lines = Lines(self._checkpoints, run, epoch.number)
        return self._lines

    def _epoch_folder(self, epoch: Epoch) -> Path:
        return self._folder / "runs" / self._work.run / str(epoch.number)

    def _first(self, epoch: Epoch, metrics: Metrics) -> First:
        cadence = Cadence(
            every_steps=self._work.train.checkpoint_every_steps,
            nodes=epoch.world_size,
            failures=epoch.number,
        )
        self._committer = self._committer_of(epoch.resume_steps, metrics, cadence)
        return First(commits=self._committer, export_to=self._epoch_folder(epoch) / "model")

    def _committer_of(
        self, resume_steps: tuple[int, ...], lines: Lines, cadence: Cadence
    ) -> Committer:
        if self._committer is not None and self._committer.is_writing:
            # It may go on with its own checkpoint, which counts; ours must not touch it.
            self._writer, self._stages = Writer(), Stages()
        self._stages.prepare(tensors_of(self._model, self._optimizer))
        return Committer(
            self._checkpoints,
            self._work.run,
            resume_steps,
            recipe=self._recipe,
            writer=self._writer,
            stages=self._stages,
            clock=self._clock.now,
            seconds=self._clock.seconds,
            nonce=lambda: secrets.token_hex(4),
            note=lambda why: self._say(Noted(why=why)),
            before=lines.upload,  # so that no step counts whose figures are lost
            cadence=cadence,
            unsaved_s_max=self._work.train.unsaved_s_max,
        )


def out_of_memory(fault: BaseException) -> Failed:
    """Names it; raises any other fault again."""
    # Torch says so by a class of its own on a GPU, in words on a CPU.
    is_so = isinstance(fault, MemoryError | torch.OutOfMemoryError)
    if not is_so and "can't allocate" not in str(fault):
        raise fault
    return Failed(why=f"{OUT_OF_MEMORY} ({str(fault).splitlines()[0]})")


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
            match orders.inbox.get():
                case Epoch() as epoch:
                    worker.train(epoch, orders)
                case Keep() as keep:
                    worker.keep(keep)
                case _:
                    raise AssertionError("one process, one run")
    except (Refused, Corrupt, Missing) as fault:
        say(Failed(why=str(fault)))
    except MEMORY_ERRORS as fault:
        say(out_of_memory(fault))


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

    orders = Orders(say)
    # Unbuffered: a buffer's lock, held by a thread that reads, would abort the interpreter's end.
    lines = io.FileIO(0, "rb", closefd=False)
    threading.Thread(target=orders.read, args=(lines,), daemon=True).start()
    serve(orders, say, Clock(now=lambda: datetime.now(UTC), seconds=time.monotonic))


if __name__ == "__main__":
    main()
