"""A pool on one machine, as its keeper tells and takes it.

One JSON line in, one out, over an abstract Unix socket that ends with the keeper; the keeper asks
the kernel whose process it talks to, so there is no secret.
"""

import socket
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from runtime.errors import Refused, Unavailable

ANSWER_S = 10.0  # a keeper answers at once; it is slow only on a loaded machine
LINE_BYTES_MAX = 1 << 20

Answer: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(dict[str, JsonValue])


class NodeDescription(BaseModel):
    """A node as its keeper sees it from outside; what it does, its presence tells."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    node: str
    index: int
    address: str
    pid: int | None  # None while no process runs
    state: Literal["running", "stopping", "backing-off"]
    restarts: int  # since this keeper began to hold it
    is_stale: bool = False  # it runs by a node file that has changed since, and will be replaced


class PoolDescription(BaseModel):
    """A pool as its keeper sees it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pool: str
    size: int  # nodes held now, those on their way out included
    target: int  # nodes wanted
    pid: int  # of the keeper
    nodes: tuple[NodeDescription, ...]


class LocalPool:
    """Client of a pool's keeper."""

    def __init__(self, stack_id: str, pool: str) -> None:
        self.pool = pool
        self._address = socket_address(stack_id, pool)

    def describe(self) -> PoolDescription:
        """What the keeper holds; raises Unavailable when no keeper listens."""
        answer = self._ask({"op": "describe"})
        try:
            return PoolDescription.model_validate(answer)
        except ValidationError as fault:
            raise Unavailable(f"pool {self.pool}: its keeper speaks otherwise: {fault}") from fault

    def set_size(self, size: int) -> None:
        """Grow or shrink at once; raises Unavailable, or Refused for a size out of bounds."""
        self._ask({"op": "size", "size": size})

    def reload(self) -> None:
        """Read the pool's file again; nodes whose file changed are replaced in the background."""
        self._ask({"op": "reload"})

    def stop(self) -> None:
        """Stop all nodes, then the keeper; returns before it is done."""
        self._ask({"op": "stop"})

    def _ask(self, question: dict[str, JsonValue]) -> dict[str, JsonValue]:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(ANSWER_S)
                connection.connect(self._address)
                connection.sendall(Answer.dump_json(question) + b"\n")
                with connection.makefile("rb") as stream:
                    answer = Answer.validate_json(stream.readline(LINE_BYTES_MAX))
        except (OSError, ValidationError) as fault:
            raise Unavailable(f"pool {self.pool}: its keeper does not answer: {fault}") from fault
        if "error" in answer:
            raise Refused(f"pool {self.pool}: {answer['error']}")
        return answer


def socket_address(stack_id: str, pool: str) -> str:
    """Name of a keeper's abstract socket; who holds it is the keeper."""
    return f"\0atoll/{stack_id}/{pool}"
