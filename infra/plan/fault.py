"""A fault of a stack file is a value: where, found, allowed, do. All are gathered, raised once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runtime.errors import Refused


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One setting that can't stay as it is."""

    at: str  # path of the setting, for example atoll:training.nodes
    found: str
    allowed: str
    do: str
    beside: tuple[str, ...] = ()  # paths of the settings that this one conflicts with

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


def without_echoes(faults: Iterable[Fault], known: Sequence[Fault]) -> list[Fault]:
    """Those that don't rest on a setting that is itself at fault.

    Such a setting was replaced by its default, so a conflict with it is not what the user wrote.
    """
    return [
        fault
        for fault in faults
        if not any(_meet(path, other.at) for path in (fault.at, *fault.beside) for other in known)
    ]


def _meet(path: str, other: str) -> bool:
    """Whether one is the other, or a part of it."""
    shorter, longer = sorted((path, other), key=len)
    return longer == shorter or longer.startswith(f"{shorter}.")
