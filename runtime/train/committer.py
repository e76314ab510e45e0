"""Writes checkpoints beside training: tensors are staged at once, another process writes them.

There is room for two: one in the writing, and the newest one, which waits for it. So training
never waits for a store, however slow, and what is not written yet is overtaken rather than queued.
A store that takes none for a while costs those checkpoints, not the run; for too long, and what
would be lost is more than anybody wants to lose: then `is_full` asks for a pause.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from torch import Tensor

from runtime.checkpoint import Draft, Recipe
from runtime.checkpoint.interval import Cadence
from runtime.checkpoint.protocol import NotSaved, Saved, Task
from runtime.limits import COMMIT_GRACE_S, SPOOL_AGAIN_S, SPOOL_AGAIN_S_MAX
from runtime.objects import Store
from runtime.train.stage import Shape, Stage

PAUSED = "training is paused: no checkpoint was taken"

log = logging.getLogger("worker")


class Writes(Protocol):
    """What writes one checkpoint at a time."""

    def save(self, task: Task, files: frozenset[int]) -> Saved | NotSaved:
        """Write it; `files` are all descriptors that tasks may name."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A checkpoint that waits to be written."""

    stage: Stage
    draft: Draft
    at_s: float  # when it was staged


class Stages:
    """Room for two checkpoints, kept from epoch to epoch."""

    def __init__(self) -> None:
        self._shape: Shape | None = None
        self._pair: tuple[Stage, ...] = ()
        self._warming: threading.Thread | None = None

    @property
    def files(self) -> frozenset[int]:
        """The descriptors of both."""
        return frozenset(file for stage in self._pair for file in stage.files)

    def prepare(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the memory of the first beside training, so that its first save costs no more."""
        if self._shape is not None:
            return
        try:
            stage = self.free(tensors, None)
        except OSError:
            return  # told when it is needed
        self._warming = threading.Thread(target=stage.warm, args=(tensors,), daemon=True)
        self._warming.start()

    def free(self, tensors: Mapping[str, Tensor], busy: Stage | None) -> Stage:
        """The one that is not busy; both are made anew for tensors of another shape."""
        if self._warming is not None:
            self._warming.join()
            self._warming = None
        shape = Shape.of(tensors)
        if shape != self._shape:
            assert busy is None, "one run, one shape"
            for stage in self._pair:
                stage.close()
            self._pair, self._shape = (), None
            self._pair = (Stage(shape), Stage(shape))
            self._shape = shape
        return self._pair[0] if busy is not self._pair[0] else self._pair[1]


class Committer:
    """The first member's, for one epoch."""

    def __init__(
        self,
        store: Store,
        run: str,
        resume_steps: tuple[int, ...],
        *,
        recipe: Recipe,
        writer: Writes,
        stages: Stages,
        clock: Callable[[], datetime],
        seconds: Callable[[], float],
        nonce: Callable[[], str],
        note: Callable[[str], None],
        before: Callable[[], None],
        cadence: Cadence,
        unsaved_s_max: float,
        grace_s: float = COMMIT_GRACE_S,
    ) -> None:
        """`note` hears of a checkpoint not written; `before` runs before each is written."""
        self._url = store.url
        self._run = run
        self._resume_steps = resume_steps  # of all epochs up to this one
        self._recipe = recipe
        self._writer = writer
        self._stages = stages
        self._clock = clock
        self._seconds = seconds
        self._nonce = nonce
        self._note = note
        self._before = before
        self._cadence = cadence
        self._step_began_s: float | None = None  # None: this epoch's first is still to be seen
        self._unsaved_s_max = unsaved_s_max
        self._unsaved_s: float | None = None  # since when something is staged and nothing taken
        self._taken = threading.Event()
        self._grace_s = grace_s
        self._noted = ""
        self._lock = threading.Lock()
        self._waiting: Staged | None = None
        self._writing: Staged | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()  # no pause between tries any more
        self._is_ending = False

    @property
    def is_writing(self) -> bool:
        """Whether one is being written now."""
        return self._thread is not None

    @property
    def is_full(self) -> bool:
        """Whether the store has taken none for longer than may be."""
        since_s = self._unsaved_s
        return since_s is not None and self._seconds() - since_s >= self._unsaved_s_max

    def wait_room(self, timeout_s: float) -> None:
        """While training pauses: until the store takes one again, or so long."""
        self._taken.clear()
        if self.is_full:
            if not self._noted.startswith(PAUSED):
                self._tell(f"{PAUSED} for {self._unsaved_s_max:.0f} s")
            self._taken.wait(timeout_s)
        self._step_began_s = None  # a pause is no step

    def is_due(self, step: int) -> bool:
        """Whether to save after this step; asked after every one, which tells how long each took.

        Only the first member saves, so it alone decides.
        """
        now_s = self._seconds()
        if self._step_began_s is not None:
            self._cadence.stepped(now_s - self._step_began_s, is_writing=self.is_writing)
        self._step_began_s = now_s
        return self._cadence.is_due(step)

    def start(self, step: int, samples: int, tensors: Mapping[str, Tensor]) -> None:
        """Stage the tensors as they are now, and have them written beside training."""
        began_s = self._seconds()
        with self._lock:
            overtaken, self._waiting = self._waiting, None
            busy = self._writing.stage if self._writing is not None else None
        if overtaken is not None:
            log.warning("checkpoint of step %d overtaken by %d", overtaken.draft.step, step)
        try:
            stage = self._stages.free(tensors, busy)
            stage.take(tensors)
        except OSError as fault:
            self._tell(f"checkpoint of step {step} not written: {fault}")
            return
        self._step_began_s = self._seconds()
        self._cadence.staged(self._step_began_s - began_s)
        with self._lock:
            self._waiting = Staged(stage, self._draft(step, samples), self._step_began_s)
            if self._unsaved_s is None:
                self._unsaved_s = self._step_began_s
            self._wake.set()
            if self._writing is None and self._thread is None:
                self._thread = threading.Thread(
                    target=self._write_all, name="committer", daemon=True
                )
                self._thread.start()

    def wait(self, timeout_s: float | None = None) -> None:
        """Until all is written, or the store has refused it once more; or so long."""
        with self._lock:
            self._is_ending = True
            self._wake.set()
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        self._is_ending = False

    def _draft(self, step: int, samples: int) -> Draft:
        return Draft(
            **dict(self._recipe),
            run=self._run,
            epoch=len(self._resume_steps) - 1,
            step=step,
            samples=samples,
            at=self._clock(),
            nonce=self._nonce(),
        )

    def _write_all(self) -> None:
        try:
            self._write_what_waits()
        except BaseException:
            with self._lock:  # the next checkpoint is not lost with this one
                self._writing = self._thread = None
            raise

    def _write_what_waits(self) -> None:
        while True:
            with self._lock:
                self._writing, self._waiting = self._waiting, None
                if self._writing is None:
                    self._thread = None
                    return
                staged = self._writing
                if not self._is_ending:
                    self._wake.clear()
            self._write(staged)

    def _write(self, staged: Staged) -> None:
        """Try until it is written, a newer one waits, or nobody waits any more."""
        draft = staged.draft
        task = Task(
            store=self._url,
            draft=draft,
            files=staged.stage.files,
            resume_steps=self._resume_steps,
            grace_s=self._grace_s,
        )
        pause_s = SPOOL_AGAIN_S
        while True:
            is_last = self._is_ending
            self._before()
            outcome = self._writer.save(task, self._stages.files)
            if isinstance(outcome, Saved):
                self._take()
                self._tell("; ".join(outcome.faults))
                return
            why = f"checkpoint of step {draft.step} not written: {outcome.why}"
            if self.is_full:
                why = f"{PAUSED} for {self._unsaved_s_max:.0f} s; {why}"
            self._tell(why)
            if outcome.is_final:  # somebody else has committed this one
                self._take()
                return
            if is_last or self._waiting is not None:
                return
            self._wake.wait(pause_s)
            pause_s = min(2 * pause_s, SPOOL_AGAIN_S_MAX)

    def _take(self) -> None:
        """One is in the store: what came after it is unsaved since it was staged."""
        with self._lock:
            self._unsaved_s = self._waiting.at_s if self._waiting is not None else None
        self._taken.set()

    def _tell(self, why: str) -> None:
        """Say what is new: a fault, or that there is none any more."""
        if why != self._noted:
            self._noted = why
            self._note(why)
