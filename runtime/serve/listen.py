"""An HTTP application on one address, inside an event loop that somebody else leaves.

Signals stay with runtime/node.py: a server that exits by itself on SIGTERM could not drain.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator

import uvicorn
from fastapi import FastAPI

from runtime.errors import Unavailable
from runtime.limits import CHILD_STOP_S, KEEP_ALIVE_S
from runtime.serve.transport import GatheredProtocol

BACKLOG = 2048
HEADER_BYTES_MAX = 64 << 10  # one huge header must not fill the memory


class Server(uvicorn.Server):
    """uvicorn that leaves signals alone and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(app: FastAPI, address: str, port: int) -> AsyncIterator[None]:
    """Serve inside this context; raises Unavailable if the port is taken."""
    config = uvicorn.Config(
        app,
        http=GatheredProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=int(KEEP_ALIVE_S),
        timeout_graceful_shutdown=int(CHILD_STOP_S),
        h11_max_incomplete_event_size=HEADER_BYTES_MAX,
    )
    try:
        listener = socket.create_server((address, port), backlog=BACKLOG)
    except OSError as fault:
        raise Unavailable(f"{address}:{port}: {fault.strerror}; is the port taken?") from fault
    server = Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.listening.wait()
        yield
    finally:
        server.should_exit = True
        await running


async def left(leaving: threading.Event) -> None:
    """Return once a thread's event is set."""
    loop = asyncio.get_running_loop()
    is_set = asyncio.Event()

    def wait() -> None:
        leaving.wait()
        with contextlib.suppress(RuntimeError):  # the loop may be closed by then
            loop.call_soon_threadsafe(is_set.set)

    threading.Thread(target=wait, name="leaving", daemon=True).start()
    await is_set.wait()
