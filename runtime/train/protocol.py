"""What agent and worker tell each other: one JSON object a line, over the worker's pipes.

No torch here: the agent has none.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from runtime.node_spec import StoreUrls, TrainSpec


class Message(BaseModel):
    """Base of all lines."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def line(self) -> bytes:
        """As it crosses the pipe."""
        return self.model_dump_json().encode() + b"\n"


class Work(Message):
    """First command: the run to work on."""

    op: Literal["work"] = "work"
    run: str
    train: TrainSpec
    stores: StoreUrls
    node: str
    address: str
    folder: str


class Epoch(Message):
    """Form this epoch's group, take its state, and go on to the end of the run."""

    op: Literal["epoch"] = "epoch"
    number: int
    rank: int
    world_size: int
    rendezvous: str
    resume_steps: tuple[int, ...]  # of all epochs up to this one: they say which commits count


class Pause(Message):
    """To the first member: stop all members at the next step, with a commit."""

    op: Literal["pause"] = "pause"


class Imported(Message):
    """The worker is up; what takes long on a loaded machine is behind it."""

    event: Literal["imported"] = "imported"


class Ready(Message):
    """The data is prepared and the model built: an epoch may come."""

    event: Literal["ready"] = "ready"


class Stepped(Message):
    """A step was applied."""

    event: Literal["stepped"] = "stepped"
    epoch: int
    step: int
    loss: float
    tokens_per_s: float


class Noted(Message):
    """Something that does not end training but that people should know; empty once it is mended."""

    event: Literal["noted"] = "noted"
    why: str


class Broken(Message):
    """A peer was lost, or the group could not be formed: the next epoch, please."""

    event: Literal["broken"] = "broken"
    epoch: int
    step: int
    why: str


class Paused(Message):
    """All members stopped at this step and it is committed."""

    event: Literal["paused"] = "paused"
    epoch: int
    step: int


class Done(Message):
    """The last step is applied; the first member has exported the model to `folder`."""

    event: Literal["done"] = "done"
    epoch: int
    step: int
    folder: str | None = None
    metrics: dict[str, float] = {}


class Failed(Message):
    """The run can't succeed, on no node: bad data, a loss that is no number."""

    event: Literal["failed"] = "failed"
    why: str


Command = Work | Epoch | Pause
Event = Imported | Ready | Stepped | Noted | Broken | Paused | Done | Failed

COMMANDS: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="op")])
EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])
