"""The lines between a replica and its engine process."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from runtime.lines import Line

SEED_MIN, SEED_MAX = -(2**63), 2**63 - 1


class Load(Line):
    """Open a model folder and make one real token with it."""

    op: Literal["load"] = "load"
    folder: str
    slots: int
    queue: int


class Start(Line):
    """Generate. `id` is the replica's own and names the request from now on."""

    op: Literal["start"] = "start"
    id: str
    prompt: tuple[int, ...]
    tokens_max: int
    temperature: float
    top_p: float
    seed: int
    stop: tuple[str, ...] = ()


class Cancel(Line):
    """Forget a request; no event follows. Unknown ids are ignored: it may just have ended."""

    op: Literal["cancel"] = "cancel"
    id: str


class Ping(Line):
    """Answer between two steps."""

    op: Literal["ping"] = "ping"


Command = Annotated[Load | Start | Cancel | Ping, Field(discriminator="op")]


class Imported(Line):
    """torch is there; a model may be loaded."""

    event: Literal["imported"] = "imported"


class Loaded(Line):
    """The model has made a token."""

    event: Literal["loaded"] = "loaded"
    context: int  # longest sequence, tokens
    cache_bytes: int


class Unfit(Line):
    """The model can't be served."""

    event: Literal["unfit"] = "unfit"
    why: str


class Piece(Line):
    """Tokens of one request since its last piece, and the text that is final by now."""

    event: Literal["piece"] = "piece"
    id: str
    text: str
    tokens: tuple[int, ...]
    end: Literal["stop", "length"] | None = None  # set on the last piece


class Failed(Line):
    """A request ended by a fault of the engine."""

    event: Literal["failed"] = "failed"
    id: str
    why: str


class Pong(Line):
    """The engine is between two steps."""

    event: Literal["pong"] = "pong"


Event = Annotated[
    Imported | Loaded | Unfit | Piece | Failed | Pong,
    Field(discriminator="event"),
]

COMMAND: TypeAdapter[Load | Start | Cancel | Ping] = TypeAdapter(Command)
EVENT: TypeAdapter[Imported | Loaded | Unfit | Piece | Failed | Pong] = TypeAdapter(Event)
