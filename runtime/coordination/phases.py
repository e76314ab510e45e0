"""How long each phase of a change of membership took, as the new epoch's first member saw it.

Kept beside the epoch's record as `runs/<run>/phases/<n>`, by that member, once it is training.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.errors import Missing
from runtime.objects import Store


class Phases(BaseModel):
    """Seconds of each phase; together, what a change costs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    detect_s: float  # silence of the lost peer; 0 if its connection told
    agree_s: float  # from the first sign until this node knew the epoch's record
    form_s: float  # until the group stood
    fetch_s: float  # until all of the state was there
    first_step_s: float  # until the first step was applied: one that would have come anyway

    @property
    def lost_s(self) -> float:
        """What would not have been without the change."""
        return self.detect_s + self.agree_s + self.form_s + self.fetch_s


@dataclass(slots=True)
class Stopwatch:
    """Times of one change; monotonic seconds are passed in."""

    silent_s: float = 0.0
    sign_s: float | None = None
    taken_s: float = 0.0
    formed_s: float = 0.0
    fetched_s: float = 0.0
    is_running: bool = False

    def sign(self, now_s: float, silent_s: float = 0.0) -> None:
        """Something is amiss, or a pause has come; later signs of the same change are no news."""
        if self.sign_s is None:
            self.sign_s, self.silent_s = now_s, silent_s

    def take_up(self, now_s: float) -> None:
        """The epoch is known."""
        self.sign(now_s)
        self.taken_s = now_s
        self.is_running = True

    def first_step(self, now_s: float) -> Phases | None:
        """A step was applied; what all took, if it was the epoch's first."""
        if not self.is_running or self.sign_s is None:
            return None
        phases = Phases(
            detect_s=self.silent_s,
            agree_s=self.taken_s - self.sign_s,
            form_s=self.formed_s - self.taken_s,
            fetch_s=self.fetched_s - self.formed_s,
            first_step_s=now_s - self.fetched_s,
        )
        self.sign_s, self.is_running = None, False
        return phases


def write_phases(control: Store, run: str, epoch: int, phases: Phases) -> None:
    """Beside the epoch's record; raises Unavailable."""
    control.put(_key(run, epoch), phases.model_dump_json().encode())


def read_phases(control: Store, run: str, epochs: int) -> Iterator[Phases | None]:
    """Of each epoch; None where its first member has not told them."""
    for epoch in range(epochs):
        try:
            yield Phases.model_validate_json(control.get(_key(run, epoch)))
        except (Missing, ValidationError):
            yield None


def _key(run: str, epoch: int) -> str:
    return f"runs/{run}/phases/{epoch:08d}"
