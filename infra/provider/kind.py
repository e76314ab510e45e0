"""What the provider asks of each kind of resource, and what a kind may ask of the provider.

A kind's inputs are a pydantic model; its state on the wire is its inputs plus what it computed.
"""

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from infra.provider.wire import Properties


class Inputs(BaseModel):
    """Base of all inputs: frozen, and refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Say(Protocol):
    """A line on the resource's row; `kept` lines stay in the summary at the end."""

    def __call__(self, message: str, *, kept: bool = False) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """The surroundings of one operation."""

    say: Say
    cancelled: threading.Event = field(default_factory=threading.Event)


class Incomplete(Exception):
    """Something exists but is not right yet: state is kept, the next `up` updates it."""

    def __init__(self, resource_id: str, outputs: Properties, reason: str) -> None:
        super().__init__(reason)
        self.resource_id = resource_id
        self.outputs = outputs


InputsT = TypeVar("InputsT", bound=Inputs)


class Kind(ABC, Generic[InputsT]):
    """One type of resource. Operations are idempotent; `create` adopts what is already there."""

    token: ClassVar[str]
    replaces: ClassVar[frozenset[str]] = frozenset()  # a change of these makes a new resource
    computed: ClassVar[tuple[str, ...]] = ()  # outputs that only create or update knows
    secret: ClassVar[frozenset[str]] = frozenset()  # outputs that Pulumi must encrypt
    inputs: type[InputsT]

    @abstractmethod
    def create(self, inputs: InputsT, context: Context) -> tuple[str, Properties]:
        """Make it; returns its id and what was computed. Raises AtollError or Incomplete."""

    @abstractmethod
    def read(self, inputs: InputsT, computed: Properties) -> bool:
        """Whether it is still there as it was made. A False makes the next `up` create it."""

    def update(self, inputs: InputsT, computed: Properties, context: Context) -> Properties:
        """Bring it to new inputs in place; returns what is computed now."""
        del inputs, context
        return computed

    @abstractmethod
    def delete(self, inputs: InputsT, computed: Properties, context: Context) -> None:
        """Remove it; no error if it is gone already."""

    def refuse_update(self, state: Properties) -> None:
        """Raise Refused if no update of the stack may start now. Asked in preview too.

        `state` is as an earlier version of the kit may have left it.
        """
