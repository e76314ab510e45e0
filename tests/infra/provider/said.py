"""The surroundings of one operation of a kind of resource, without an engine."""

import threading
from dataclasses import dataclass, field

from infra.provider.kind import Context


@dataclass
class Said:
    """Collects what would be shown on the resource's row."""

    lines: list[str] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def __call__(self, message: str, *, kept: bool = False) -> None:
        self.lines.append(message)

    @property
    def context(self) -> Context:
        """What the provider hands to an operation."""
        return Context(say=self, cancelled=self.cancelled)
