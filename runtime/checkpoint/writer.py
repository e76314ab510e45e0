"""The process that writes a worker's checkpoints: hashes and puts cost training no lock.

`python -P -m runtime.checkpoint.writer`: tasks on standard input, events on standard output. Shards
are files in memory, whose descriptors it inherits. Ends at once when its worker is gone.
"""

import os
import select
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from runtime.checkpoint.manifest import Commit
from runtime.checkpoint.protocol import Event, NotSaved, Saved, Task, Wrote
from runtime.checkpoint.retention import prune
from runtime.checkpoint.saving import save
from runtime.errors import AtollError, Conflict
from runtime.objects import Store, open_store

NICE = 10  # behind training, but not so far that a busy machine never lets it finish


def carry_out(
    task: Task, store: Store, say: Callable[[Event], None], verified: set[Commit]
) -> Saved | NotSaved:
    """One task; `verified` are commits that were read back and found sound."""
    draft = task.draft
    try:
        shards = (Path(f"/proc/self/fd/{file}") for file in task.files)
        save(store, draft, shards, wrote=lambda _: say(Wrote()))
    except Conflict as fault:
        return NotSaved(why=str(fault), is_final=True)
    except (AtollError, OSError) as fault:
        return NotSaved(why=str(fault), is_final=False)
    try:
        damaged = prune(store, draft.run, task.resume_steps, task.grace_s, verified)
    except AtollError as fault:
        return Saved(faults=(str(fault),))
    return Saved(
        faults=tuple(f"checkpoint {each.commit.name} put aside: {each.why}" for each in damaged)
    )


def end_with_worker() -> None:
    """Wait until the other end of standard input is closed; then nobody needs this process."""
    poll = select.poll()
    poll.register(0, 0)  # no event asked for: only a hang-up is told
    poll.poll()
    os._exit(0)


def main() -> None:
    """Serve tasks, one at a time."""
    os.nice(NICE)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not break the protocol
    threading.Thread(target=end_with_worker, daemon=True).start()

    def say(event: Event) -> None:
        out.write(event.encode())
        out.flush()

    verified: set[Commit] = set()
    stores: dict[str, Store] = {}
    for line in sys.stdin.buffer:
        task = Task.model_validate_json(line)
        try:
            store = stores.setdefault(task.store, open_store(task.store))
        except AtollError as fault:
            say(NotSaved(why=str(fault), is_final=False))
            continue
        say(carry_out(task, store, say, verified))
    os._exit(0)


if __name__ == "__main__":
    main()
