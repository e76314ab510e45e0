"""Orders to a keeper: one JSON line in, one out, over an abstract Unix socket.

Whoever holds the socket's name is the keeper; the name goes with the process. The kernel says which
user asks; another one is refused.
"""

import asyncio
import logging
import os
import socket
import struct
from contextlib import suppress
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.provider.keeping.pool import HeldPool
from infra.provider.keeping.pool_file import read_pool_file
from runtime.clouds.local import Answer, socket_address
from runtime.errors import AtollError, Refused
from runtime.limits import NOTICE_AHEAD_S, NOTICE_S_MIN

LINE_BYTES_MAX = 1 << 16
READ_S = 5.0
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred, unix(7)

log = logging.getLogger(__name__)


class Order(BaseModel):
    """What may be asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    op: Literal["describe", "size", "reclaim", "reload", "stop"]
    size: int = Field(default=-1, description="Of `size`; refused if it is not given.")
    node: str = Field(default="", description="Of `reclaim`.")
    after_s: float = Field(default=NOTICE_S_MIN, ge=0, le=NOTICE_AHEAD_S)  # of `reclaim`


def take_name(stack_id: str, pool: str) -> socket.socket | None:
    """The bound socket; None if another keeper holds it."""
    taken = socket.socket(socket.AF_UNIX)
    try:
        taken.bind(socket_address(stack_id, pool))
    except OSError:
        taken.close()
        return None
    return taken


class Control:
    """Answers orders until the keeper ends."""

    def __init__(self, pool: HeldPool, stop: asyncio.Event) -> None:
        self._pool = pool
        self._stop = stop

    async def serve(self, bound: socket.socket) -> asyncio.Server:
        """Start to listen."""
        return await asyncio.start_unix_server(self._talk, sock=bound, limit=LINE_BYTES_MAX)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, ValueError):  # ValueError: a line beyond the limit
            if is_ours(writer):
                line = await asyncio.wait_for(reader.readline(), READ_S)
                writer.write(await self._answer(line) + b"\n")
                await asyncio.wait_for(writer.drain(), READ_S)
        writer.close()

    async def _answer(self, line: bytes) -> bytes:
        try:
            return await self._obey(Order.model_validate_json(line))
        except (AtollError, OSError, ValidationError) as fault:
            text = str(fault).replace("\n", " ")
        except Exception as fault:  # the asker must hear of it, and the pool must be kept
            log.exception("order %r", line)
            text = f"{type(fault).__name__}: {fault}"
        return Answer.dump_json({"error": text})

    async def _obey(self, order: Order) -> bytes:
        match order.op:
            case "describe":
                return self._pool.describe().model_dump_json().encode()
            case "size":
                self._pool.set_size(order.size)
                return Answer.dump_json({"size": self._pool.target})
            case "reclaim":
                self._pool.reclaim(order.node, order.after_s)
            case "reload":
                await self._reload()
            case "stop":
                self._stop.set()
        return Answer.dump_json({"ok": True})

    async def _reload(self) -> None:
        file, now = read_pool_file(self._pool.file.folder), self._pool.file
        if (file.stack_id, file.pool, file.role) != (now.stack_id, now.pool, now.role):
            raise Refused(f"pool.json: found pool {file.pool}; allowed only {now.pool}")
        await self._pool.reload(file)


def is_ours(writer: asyncio.StreamWriter) -> bool:
    """Whether the peer is a process of this user."""
    peer = writer.get_extra_info("socket")
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    _, uid, _ = CREDENTIALS.unpack(raw)
    return bool(uid == os.getuid())
