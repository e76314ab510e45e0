"""One epoch of training: data → strategy.step → metrics → checkpoint, to the end of the run.

The global batch is fixed: a smaller world computes more of it per member, and the gradient is the
sum over its samples divided by their number, whatever the number of members.
"""

# B batch, T tokens, V vocabulary
# ruff: noqa: N806

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

import torch
from torch.nn.functional import cross_entropy
from torch.optim import AdamW

from runtime.limits import HOLD_S
from runtime.model import export
from runtime.model.decoder import Decoder
from runtime.node_spec import TrainSpec
from runtime.train.alike import are_finite, compare
from runtime.train.data import Data
from runtime.train.device import device_of, settle
from runtime.train.evaluate import LAST_SAMPLES, QUICK_SAMPLES, Held, evaluate
from runtime.train.metrics import Lines
from runtime.train.optimizer import apply, learning_rate
from runtime.train.order import chunks, sample_of, share
from runtime.train.pace import Pace
from runtime.train.protocol import Done, Event, Failed, Paused, Slow, Stepped
from runtime.train.state import tensors_of
from runtime.train.strategy import Strategy

PACE_STEPS = 20  # tokens/s are told over the last so many steps
COMPARE_STEPS = 100  # all members' weights are compared so often, and before each commit
SAY_S = 0.2  # at most this often: presence is written far less often


class Commits(Protocol):
    """Where the first member's checkpoints go."""

    @property
    def is_full(self) -> bool:
        """Whether too much is unsaved to train on."""

    def wait_room(self, timeout_s: float) -> None:
        """Until it is saved, or so long."""

    def is_due(self, step: int) -> bool:
        """Whether to save after this step; asked once for every step."""

    def start(self, step: int, samples: int, tensors: dict[str, torch.Tensor]) -> None:
        """Begin to write one."""

    def wait(self, timeout_s: float | None = None) -> None:
        """Until it is written, or so long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """Both clocks, passed in."""

    now: Callable[[], datetime]
    seconds: Callable[[], float]  # monotonic


@dataclass(frozen=True, slots=True)
class Wish:
    """What this member would like of all, after the step."""

    is_pause: bool
    is_commit: bool
    is_hold: bool  # until the store takes checkpoints again
    save_s: float  # how long the pause may wait for a commit; 0: none is needed

    @classmethod
    def of(cls, totals: list[float]) -> "Wish":
        """From the sum over all members' wants."""
        pauses, commits, holds, save_s = totals
        return cls(pauses > 0, commits > 0 or save_s > 0, holds > 0, save_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class First:
    """What the first member does besides."""

    commits: Commits
    export_to: Path


@dataclass(kw_only=True, slots=True)
class Training:
    """A run in one worker, for one epoch."""

    spec: TrainSpec
    epoch: int
    model: Decoder
    optimizer: AdamW
    data: Data
    strategy: Strategy
    step: int  # applied
    clock: Clock
    say: Callable[[Event], None]
    shall_pause: Callable[[], bool]
    save_s: Callable[[], float]
    lines: Lines
    first: First | None  # None on all members but the first
    _ends_s: deque[float] = field(default_factory=lambda: deque(maxlen=PACE_STEPS + 1))
    _said_s: float = float("-inf")
    _loss: float = math.nan
    _norm: float = 0.0  # of the last step's gradient
    _pace: Pace = field(default_factory=Pace)
    _straggler: int | None = None  # as was told last
    _device: torch.device = field(init=False)

    def __post_init__(self) -> None:
        self._device = device_of(self.model)

    def run(self) -> Failed | Paused | Done:
        """Train to the last step, a pause or a failure, and return which; raises PeerLost."""
        self._ends_s.append(self.clock.seconds())
        while self.step < self.spec.steps:
            wish = self._train_step()
            if not math.isfinite(self._loss):
                return Failed(why=f"the loss was {self._loss} at step {self.step + 1}")
            if not math.isfinite(self._norm):
                return Failed(why=f"the gradient was {self._norm} at step {self.step + 1}")
            is_last = self.step == self.spec.steps
            if self.step % self.spec.validate_every_steps == 0 and not is_last:
                self._log_held(self._evaluate(QUICK_SAMPLES))
            if wish.is_commit or is_last or self.step % COMPARE_STEPS == 0:
                compare(self.strategy, tensors_of(self.model, self.optimizer), self.step)
            if wish.is_commit and not are_finite(self.model):
                return Failed(why=f"weights are no numbers after step {self.step}")
            if wish.is_commit and not is_last:
                self._commit()
            if wish.is_hold and not (wish.is_pause or is_last):
                wish = self._hold()
            if wish.is_pause and not is_last:
                if self.first is not None and wish.save_s > 0:
                    self.first.commits.wait(wish.save_s)
                return Paused(epoch=self.epoch, step=self.step)
        return self._finish()

    def _train_step(self) -> Wish:
        """One step, applied only once all members' gradients and losses are in.

        Returns what all members shall do after it.
        """
        spec, strategy = self.spec, self.strategy
        if not self.model.training:
            self.model.train()
        strategy.begin()
        sent_before = strategy.bytes_sent
        consumed = self.step * spec.global_batch
        mine = [
            sample_of(consumed + at, len(self.data.train), spec.seed)
            for at in share(spec.global_batch, strategy.rank, strategy.world_size)
        ]
        parts = chunks(mine, spec.micro_batch)
        began_s = self.clock.seconds()
        loss_here = torch.zeros((), dtype=torch.float64, device=self._device)
        for number, part in enumerate(parts, start=1):
            tokens_BT, targets_BT = (side.to(self._device) for side in self.data.train.batch(part))
            logits_BTV = self.model(tokens_BT)
            nats = cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="sum")
            loss = nats / (spec.global_batch * spec.sequence_tokens)
            strategy.backward(loss, is_last=number == len(parts))
            loss_here += loss.detach()
        settle(self._device)
        compute_s = [0.0] * strategy.world_size
        compute_s[strategy.rank] = self.clock.seconds() - began_s
        commits = self.first.commits if self.first is not None else None
        # The first member alone knows what its checkpoints cost.
        wants = self._wants(is_due=commits is not None and commits.is_due(self.step + 1))
        words = torch.tensor([loss_here.item(), *compute_s, *wants])
        totals: list[float] = strategy.finish(words).tolist()
        self._loss, all_compute_s = totals[0], totals[1 : 1 + strategy.world_size]
        if math.isfinite(self._loss):
            self._norm = apply(self.optimizer, self.step, spec)
        if math.isfinite(self._loss + self._norm):
            self.step += 1
            self._log_step(strategy.bytes_sent - sent_before)
            self._tell_straggler(all_compute_s)
        return Wish.of(totals[1 + strategy.world_size :])

    def _wants(self, *, is_due: bool) -> list[float]:
        """This member's part of a `Wish`."""
        is_full = self.first is not None and self.first.commits.is_full
        return [float(self.shall_pause()), float(is_due), float(is_full), self.save_s()]

    def _log_step(self, bytes_sent: int) -> None:
        now_s = self.clock.seconds()
        self._ends_s.append(now_s)
        tokens = self.spec.global_batch * self.spec.sequence_tokens
        took_s = now_s - self._ends_s[0]
        tokens_per_s = tokens * (len(self._ends_s) - 1) / max(took_s, 1e-9)
        line = {
            "step": self.step,
            "steps": self.spec.steps,
            "loss": self._loss,
            "tokens_per_s": tokens_per_s,
            "step_s": now_s - self._ends_s[-2],
            "bytes_sent": bytes_sent,
            "learning_rate": learning_rate(self.step - 1, self.spec),
        }
        self.lines.add(self.clock.now().timestamp(), line)
        if now_s - self._said_s >= SAY_S or self.step == self.spec.steps:
            self._said_s = now_s
            stepped = Stepped(
                epoch=self.epoch, step=self.step, loss=self._loss, tokens_per_s=tokens_per_s
            )
            self.say(stepped)

    def _tell_straggler(self, compute_s: list[float]) -> None:
        self._pace.add(compute_s)
        found = self._pace.straggler()
        rank, ratio = found or (None, 1.0)
        if self.first is not None and rank != self._straggler:
            self.say(Slow(rank=rank, ratio=ratio))
        self._straggler = rank

    def _hold(self) -> Wish:
        """Stand still together until the store takes checkpoints again, or all shall pause."""
        while True:
            if self.first is not None:
                self.first.commits.wait_room(HOLD_S)
            wants = torch.tensor(self._wants(is_due=False))
            wish = Wish.of(self.strategy.sum(wants).tolist())
            if wish.is_pause or not wish.is_hold:
                return wish

    def _commit(self) -> None:
        if self.first is None:
            return
        tensors = tensors_of(self.model, self.optimizer)
        self.first.commits.start(self.step, self.step * self.spec.global_batch, tensors)

    def _evaluate(self, samples_max: int) -> Held:
        self.model.eval()
        return evaluate(
            self.model, self.data.validation, self.data.token_bytes, self.strategy, samples_max
        )

    def _log_held(self, held: Held) -> None:
        line = {
            "step": self.step,
            "val_loss": held.loss,
            "val_bits_per_byte": held.bits_per_byte,
            "val_tokens": held.tokens,
        }
        self.lines.add(self.clock.now().timestamp(), line)

    def _finish(self) -> Failed | Done:
        """After the last step: the last commit, the last validation, the export."""
        self._commit()
        held = self._evaluate(LAST_SAMPLES)
        if not math.isfinite(held.loss):  # the last step broke what its own loss could not show yet
            return Failed(why=f"the held-out loss was {held.loss} after step {self.step}")
        self._log_held(held)
        if self.first is None:
            return Done(epoch=self.epoch, step=self.step)
        folder = self.first.export_to
        export.save(self.model, self.model.shape, self.data.tokenizer, folder)
        self.first.commits.wait()
        metrics = {"val_loss": held.loss, "bits_per_byte": held.bits_per_byte}
        if math.isfinite(self._loss):  # not known if an earlier epoch has taken the last step
            metrics["loss"] = self._loss
        return Done(epoch=self.epoch, step=self.step, folder=str(folder), metrics=metrics)
