"""A pool on one machine, as its keeper tells and takes it; and the one-machine cloud for a node.

One JSON line in, one out, over an abstract Unix socket that ends with the keeper; the keeper asks
the kernel whose process it talks to, so there is no secret.
"""

import os
import socket
import stat
from pathlib import Path
from typing import Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    JsonValue,
    SecretStr,
    TypeAdapter,
    ValidationError,
)

from runtime.clouds.cloud import REAL, Identity, Notice, Surroundings, notice_until
from runtime.errors import Corrupt, Missing, Refused, Unavailable
from runtime.limits import ANSWER_BYTES_MAX, METADATA_S

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
    leave_by: AwareDatetime | None = None  # its process is killed then: `reclaim` was asked for


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

    def __init__(self, stack_id: str, pool: str, answer_s: float = ANSWER_S) -> None:
        self.pool = pool
        self._answer_s = answer_s
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

    def reclaim(self, node: str, after_s: float) -> None:
        """Give a node notice, and kill it after so long, as a cloud does with a spot machine.

        Raises Unavailable, or Refused for a node that does not run.
        """
        self._ask({"op": "reclaim", "node": node, "after_s": after_s})

    def reload(self) -> None:
        """Read the pool's file again; nodes whose file changed are replaced in the background."""
        self._ask({"op": "reload"})

    def stop(self) -> None:
        """Stop all nodes, then the keeper; returns before it is done."""
        self._ask({"op": "stop"})

    def _ask(self, question: dict[str, JsonValue]) -> dict[str, JsonValue]:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(self._answer_s)
                connection.connect(self._address)
                connection.sendall(Answer.dump_json(question) + b"\n")
                with connection.makefile("rb") as stream:
                    answer = Answer.validate_json(stream.readline(LINE_BYTES_MAX))
        except (OSError, ValidationError) as fault:
            raise Unavailable(f"pool {self.pool}: its keeper does not answer: {fault}") from fault
        if "error" in answer:
            raise Refused(f"pool {self.pool}: {answer['error']}")
        return answer


class LocalCloud:
    """What the keeper of a node's pool, and its own user's files, answer."""

    def __init__(self, stack_id: str, pool: str, node: str, *, around: Surroundings = REAL) -> None:
        self._node = node
        self._around = around
        self._pool = LocalPool(stack_id, pool)
        self._quick = LocalPool(stack_id, pool, METADATA_S)

    def notice(self, wait_s: float = 0.0) -> Notice | None:
        """Of a reclaim that somebody rehearses."""
        for described in self._quick.describe().nodes:
            if described.node == self._node and described.leave_by is not None:
                now = self._around.now()
                left_s = (described.leave_by - now).total_seconds()
                return notice_until("reclaim", left_s, now, why="reclaim rehearsed by the keeper")
        return None

    def release(self, notice: Notice) -> None:
        """Nothing to tell: the keeper sees a process end."""

    def set_size(self, size: int) -> None:
        """Make the keeper hold so many nodes."""
        self._pool.set_size(size)

    def secret(self, reference: str) -> SecretStr:
        """What a file holds that only its owner may read, without the line's end."""
        path = Path(reference)
        try:
            if not path.is_absolute():
                raise Refused(f"secret: found {reference!r}; allowed the absolute path of a file")
            with path.open("rb") as file:
                is_shared = os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO)
                whole = file.read(ANSWER_BYTES_MAX + 1)
        except FileNotFoundError:
            raise Missing(f"secret {reference}: found no such file; `up` must write it") from None
        except OSError as fault:
            raise Refused(f"secret {reference}: not read: {fault.strerror}") from None
        if is_shared:
            raise Refused(f"secret {reference}: others may read it; do: chmod 600 {reference}")
        return _text(reference, whole)

    def identity(self) -> Identity:
        """The node itself: there is one machine, in no region."""
        return Identity(instance=self._node, region="local", zone="local")


def _text(reference: str, whole: bytes) -> SecretStr:
    try:
        if 0 < len(whole) <= ANSWER_BYTES_MAX:
            return SecretStr(whole.decode().removesuffix("\n"))
    except UnicodeDecodeError:
        pass  # raised below, so that what was read is not in the exception's context
    raise Corrupt(f"secret {reference}: found no text of 1 to {ANSWER_BYTES_MAX} bytes")


def socket_address(stack_id: str, pool: str) -> str:
    """Name of a keeper's abstract socket; who holds it is the keeper."""
    return f"\0atoll/{stack_id}/{pool}"
