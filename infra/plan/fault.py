"""A fault of a stack file is a value: where, found, allowed, do. All are gathered, raised once."""

from collections.abc import Iterable
from dataclasses import dataclass

from runtime.errors import Refused


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One setting that can't stay as it is."""

    at: str  # path of the setting, for example atoll:training.nodes
    found: str
    allowed: str
    do: str

    def __str__(self) -> str:
        return f"{self.at}: found {self.found}; allowed {self.allowed}; {self.do}."


class Faults(Refused):
    """All faults of a stack file, in one message."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        assert self.faults, "raised only when there is one"
        count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        lines = "\n".join(f"  {fault}" for fault in self.faults)
        super().__init__(f"the stack file has {count}; nothing was changed:\n{lines}")
