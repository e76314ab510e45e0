"""Writes checkpoints beside training: tensors are staged at once, written by a thread.

A store that can't take one (a full disk) costs that checkpoint, not the run.
"""

import threading
from collections.abc import Callable, Mapping
from datetime import datetime

from torch import Tensor

from runtime import checkpoint
from runtime.checkpoint import Commit
from runtime.errors import AtollError
from runtime.objects import Store
from runtime.train.state import to_shards


class Committer:
    """The first member's, for one epoch. At most one checkpoint is in the writing."""

    def __init__(
        self,
        store: Store,
        run: str,
        resume_steps: tuple[int, ...],
        *,
        data: str,
        clock: Callable[[], datetime],
        nonce: Callable[[], str],
        note: Callable[[str], None],
        before: Callable[[], None],
    ) -> None:
        """`note` hears of a checkpoint not written; `before` runs before each is written."""
        self._store = store
        self._run = run
        self._resume_steps = resume_steps  # of all epochs up to this one
        self._data = data
        self._clock = clock
        self._nonce = nonce
        self._note = note
        self._before = before
        self._has_noted = False
        self._thread: threading.Thread | None = None
        self._stage: dict[str, Tensor] = {}  # reused: staging again costs a copy, not an allocation

    def start(self, step: int, samples: int, tensors: Mapping[str, Tensor]) -> None:
        """Stage the tensors as they are now, then write; waits for the one before."""
        self.wait()
        for name, tensor in tensors.items():
            if name in self._stage:
                self._stage[name].copy_(tensor)
            else:
                self._stage[name] = tensor.clone()
        self._thread = threading.Thread(
            target=self._write, args=(step, samples), name="committer", daemon=True
        )
        self._thread.start()

    def wait(self, timeout_s: float | None = None) -> None:
        """Until nothing is in the writing, or so long."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            if not self._thread.is_alive():
                self._thread = None

    def _write(self, step: int, samples: int) -> None:
        commit = Commit(len(self._resume_steps) - 1, step)
        self._before()
        try:
            checkpoint.save(
                self._store,
                self._run,
                commit,
                samples=samples,
                data=self._data,
                shards=to_shards(self._stage),
                nonce=self._nonce(),
                at=self._clock(),
            )
            checkpoint.prune(self._store, self._run, self._resume_steps)
        except AtollError as fault:
            self._note(f"checkpoint of step {step} not written: {fault}")
            self._has_noted = True
        else:
            if self._has_noted:
                self._note("")
            self._has_noted = False
