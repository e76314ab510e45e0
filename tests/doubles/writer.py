"""The writing process's work, done in this process on a store of the test's own."""

from dataclasses import dataclass, field

from runtime.checkpoint import Commit
from runtime.checkpoint.protocol import NotSaved, Saved, Task
from runtime.checkpoint.writer import carry_out
from runtime.objects import Store


@dataclass(slots=True)
class WriterHere:
    """Does just what the process does, but for the pipes."""

    store: Store
    verified: set[Commit] = field(default_factory=set)

    def save(self, task: Task, files: frozenset[int]) -> Saved | NotSaved:
        """Write it now."""
        assert set(task.files) <= files
        return carry_out(task, self.store, lambda _: None, self.verified)
