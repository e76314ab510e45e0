"""Saves checkpoints in children that stop before they begin, so that strace can be put on them.

`python -m tests.benchmarks.crash_child ours|torch`: an order a line on standard input; for each, a
line with the child's pid and, when it has ended, one with its status. A fork costs milliseconds
where importing everything anew would take most of a second.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel

from runtime.checkpoint import Draft
from runtime.checkpoint.protocol import Task

RESUME_STEPS = (0,)


class Order(BaseModel):
    """A checkpoint to save."""

    store: str  # URL; to torch, a file
    draft: Draft
    shards: tuple[Path, ...]


def save_ours(order: Order) -> None:
    """What the writing process does with a task, deletion of old ones included."""
    from runtime.checkpoint.writer import carry_out
    from runtime.objects import open_store

    files = tuple(os.open(path, os.O_RDONLY) for path in order.shards)
    task = Task(
        store=order.store, draft=order.draft, files=files, resume_steps=RESUME_STEPS, grace_s=0.0
    )
    carry_out(task, open_store(order.store), lambda _: None, set())


def save_torch(order: Order) -> None:
    """One file, written over."""
    import torch

    state = {
        path.name: torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
        for path in order.shards
    }
    torch.save(state | {"step": torch.tensor(order.draft.step)}, order.store)


def main(save: Callable[[Order], None]) -> None:
    """Until there are no more orders."""
    for line in sys.stdin.buffer:
        order = Order.model_validate_json(line)
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
            save(order)
            os._exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "torch":
        import torch  # noqa: F401  # before the forks
    else:
        import runtime.checkpoint.writer  # noqa: F401
    main({"ours": save_ours, "torch": save_torch}[sys.argv[1]])
