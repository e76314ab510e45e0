"""The one joint to the engine: bring a stack up, take it down, read its outputs."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.checkout import ROOT, home
from infra.cli.screen import DIM, Screen
from infra.cli.stack import stack_markers
from infra.clouds.standing import clear_orphans
from infra.engine import find_engine
from infra.engine.broken_off import BrokenOff
from infra.engine.command import Pulumi, pulumi_env
from runtime.errors import Refused

# The engine tells what it did on a file only if asked for its debug commands.
EVENTS_SWITCH = {"PULUMI_DEBUG_COMMANDS": "true"}


class Outputs(BaseModel):
    """What clients of the endpoint need of the stack's outputs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    endpoint_url: str
    api_key: str


@dataclass(slots=True)
class Deployer:
    """One stack in the hands of the engine, which is looked for when it is first needed."""

    stack: str
    screen: Screen
    _pulumi: Pulumi | None = None

    def up(self) -> bool:
        """`pulumi up`, shown as Pulumi shows it; whether anything was changed.

        Heals what a killed one left. Raises Refused if it fails: its own words stand above then.
        """
        pulumi = self._open_to_change()
        with tempfile.TemporaryFile() as file:  # without a name: nothing stays if we are killed
            events = Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
            arguments = ["up", "--yes", "--stack", self.stack, "--event-log", str(events)]
            with shown_on(self.screen):
                status = pulumi.run(arguments)
            if status != 0:
                raise Refused(f"stack {self.stack}: `pulumi up` failed; its reason stands above")
            return has_changes(_lines(events))

    def destroy(self) -> bool:
        """`pulumi destroy`, shown as Pulumi shows it; whether it finished."""
        pulumi = self._open_to_change()
        with shown_on(self.screen):
            return pulumi.run(["destroy", "--yes", "--stack", self.stack]) == 0

    def outputs(self) -> Outputs:
        """The stack's outputs; raises Refused if it has none."""
        try:
            return Outputs.model_validate(self._open().outputs(self.stack, show_secrets=True))
        except ValidationError:
            raise Refused(f"stack {self.stack}: found no outputs; bring it up: make up") from None

    def _open_to_change(self) -> Pulumi:
        """The engine, with the stack in being and in order."""
        pulumi = self._open()
        self.screen.line(f"engine: Pulumi {pulumi.engine.version} at {pulumi.engine.pulumi}", DIM)
        pulumi.select(self.stack)
        pulumi.forget_broken_off(self.stack, self._clear_orphans)
        return pulumi

    def _clear_orphans(self, found: BrokenOff) -> None:
        """What a killed one was making: of this kit's stacks it is found without the state."""
        for marker in stack_markers(home(), self.stack):
            for what in clear_orphans(marker, found):
                self.screen.line(f"removed {what}, which a killed update had left unseen")

    def _open(self) -> Pulumi:
        if self._pulumi is None:
            engine = find_engine(lambda line: self.screen.line(line, DIM))
            env = pulumi_env(os.environ, ROOT, home(), self.stack) | EVENTS_SWITCH
            self._pulumi = Pulumi(engine, env, ROOT)
        return self._pulumi


def has_changes(events: Iterator[str]) -> bool:
    """Whether the update that wrote these events changed any resource; unknown counts as yes."""
    changes: dict[str, int] | None = None
    for line in events:
        try:
            summary = _Event.model_validate_json(line).summary
        except ValidationError:
            continue
        if summary is not None and not summary.is_preview:
            changes = summary.changes
    return changes is None or set(changes) - {"same"} != set()


class _Summary(BaseModel):
    model_config = ConfigDict(extra="ignore")

    changes: dict[str, int] = Field(alias="resourceChanges", default_factory=dict)
    is_preview: bool = Field(alias="isPreview", default=False)


class _Event(BaseModel):
    """A line of the engine's event log (`apitype.EngineEvent` of Pulumi's SDK)."""

    model_config = ConfigDict(extra="ignore")

    summary: _Summary | None = Field(alias="summaryEvent", default=None)


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open() as file:
            yield from file
    except FileNotFoundError:
        return


@contextmanager
def shown_on(screen: Screen) -> Iterator[None]:
    """Let a child that writes to standard output write where the screen does."""
    if not screen.is_json:
        yield
        return
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
