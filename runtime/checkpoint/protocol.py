"""The lines between a worker and the process that writes its checkpoints."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from runtime.checkpoint.manifest import Draft
from runtime.lines import Line


class Task(Line):
    """The one command: write this checkpoint, then delete what it makes needless."""

    store: str  # URL
    draft: Draft
    files: tuple[int, ...]  # descriptors of the shards, inherited
    resume_steps: tuple[int, ...]  # of all epochs up to this one
    grace_s: float


class Wrote(Line):
    """A shard is in the store: the writer is alive."""

    event: Literal["wrote"] = "wrote"


class Saved(Line):
    """The checkpoint is committed."""

    event: Literal["saved"] = "saved"
    faults: tuple[str, ...] = ()  # met in deleting: damaged checkpoints, a store gone away


class NotSaved(Line):
    """It is not committed."""

    event: Literal["not-saved"] = "not-saved"
    why: str
    is_final: bool  # trying again can't help


Event = Wrote | Saved | NotSaved

EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])
