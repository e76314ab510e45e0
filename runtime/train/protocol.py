"""The lines between an agent and its worker process.

No torch here: the agent has none.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from runtime.lines import Line
from runtime.node_spec import StoreUrls, TrainSpec

OUT_OF_MEMORY = "out of memory: use a smaller training.micro_batch or model, or a larger machine"


class Work(Line):
    """First command: the run to work on."""

    op: Literal["work"] = "work"
    run: str
    train: TrainSpec
    stores: StoreUrls
    node: str
    address: str
    folder: str
    key: str  # of the run, hexadecimal: who has it is a member


class Epoch(Line):
    """Form this epoch's group, take its state, and go on to the end of the run."""

    op: Literal["epoch"] = "epoch"
    number: int
    rank: int
    world_size: int
    rendezvous: str
    resume_steps: tuple[int, ...]  # of all epochs up to this one: they say which commits count
    holders: tuple[int, ...] = ()  # ranks with the state in memory; none: the store has it


class Abort(Line):
    """This epoch is over; whoever waits for a peer in it waits in vain."""

    op: Literal["abort"] = "abort"
    number: int


class Keep(Line):
    """Between two epochs: save what is in memory, which too few members have."""

    op: Literal["keep"] = "keep"
    resume_steps: tuple[int, ...]  # of all epochs up to the one that the state is of


class Ping(Line):
    """Is anybody there?"""

    op: Literal["ping"] = "ping"


class Pause(Line):
    """Stop all members at the next step; with `save_s`, once it is committed, or after so long."""

    op: Literal["pause"] = "pause"
    save_s: float | None = None


class Imported(Line):
    """The worker is up; what takes long on a loaded machine is behind it."""

    event: Literal["imported"] = "imported"


class Ready(Line):
    """The data is prepared and the model built: an epoch may come."""

    event: Literal["ready"] = "ready"


class Pong(Line):
    """This process is not frozen."""

    event: Literal["pong"] = "pong"


class Formed(Line):
    """The epoch's group stands; `fetched` once the state is there too."""

    event: Literal["formed"] = "formed"
    epoch: int
    fetched: bool


class Stepped(Line):
    """A step was applied."""

    event: Literal["stepped"] = "stepped"
    epoch: int
    step: int
    loss: float
    tokens_per_s: float


class Noted(Line):
    """Something that does not end training but that people should know; empty once it is mended."""

    event: Literal["noted"] = "noted"
    why: str


class Slow(Line):
    """One member computes longer than the others, step after step; None: not any more."""

    event: Literal["slow"] = "slow"
    rank: int | None
    ratio: float  # of its time before the collective to the median's


class Broken(Line):
    """A peer was lost, or the group could not be formed: the next epoch, please."""

    event: Literal["broken"] = "broken"
    epoch: int
    step: int  # applied in memory; -1: no state
    why: str


class Paused(Line):
    """All members stopped at this step."""

    event: Literal["paused"] = "paused"
    epoch: int
    step: int


class Done(Line):
    """The last step is applied; the first member has exported the model to `folder`."""

    event: Literal["done"] = "done"
    epoch: int
    step: int
    folder: str | None = None
    metrics: dict[str, float] = Field(default_factory=dict)


class Failed(Line):
    """The run can't succeed, on no node: bad data, a loss that is no number."""

    event: Literal["failed"] = "failed"
    why: str


Command = Work | Epoch | Pause | Abort | Keep | Ping
Event = Imported | Ready | Pong | Formed | Stepped | Slow | Noted | Broken | Paused | Done | Failed

COMMANDS: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="op")])
EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])
