"""Server-sent events: whole events, pings while there are none, an end that tells a cut."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runtime.limits import SEND_S, STREAM_PING_S
from runtime.serve.api.requests import gone

PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
ERROR_START = b'data: {"error"'
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # proxies that buffer would turn a stream into bursts
}


def event(data: BaseModel, *, exclude: set[str] | None = None) -> bytes:
    """One event with JSON data."""
    return b"data: " + data.model_dump_json(exclude=exclude).encode() + b"\n\n"


def is_data(block: bytes) -> bool:
    """Whether an event carries data; a ping does not."""
    return not block.startswith(b":")


def split_events(buffer: bytes) -> tuple[list[bytes], bytes]:
    """Whole events, and the beginning of the next one."""
    *blocks, rest = buffer.split(b"\n\n")
    return [block + b"\n\n" for block in blocks], rest


class EventStream(Response):
    """Sends events as they come. Ends them when the client goes, and always calls `on_close`."""

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        on_close: Callable[[], Awaitable[None]],
        headers: dict[str, str] | None = None,
        ping_s: float = STREAM_PING_S,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS | (headers or {}))
        self._events = events
        self._on_close = on_close
        self._ping_s = ping_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the events end or the client has gone."""
        sending = asyncio.create_task(self._send_all(send))
        watching = asyncio.create_task(gone(receive))
        try:
            await asyncio.wait([sending, watching], return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            watching.cancel()
            sending.cancel()
            await asyncio.wait([sending, watching])
            await self._events.aclose()
            await self._on_close()

    async def _send_all(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        while True:
            block = await self._next(send)
            await self._send(send, block or b"", is_more=block is not None)
            if block is None:
                return

    async def _next(self, send: Send) -> bytes | None:
        """The next event, with pings while it is awaited; None at the end."""
        coming = asyncio.ensure_future(anext(self._events, None))
        try:
            while not (await asyncio.wait([coming], timeout=self._ping_s))[0]:
                await self._send(send, PING, is_more=True)
            return coming.result()
        finally:
            if not coming.done():
                coming.cancel()
                await asyncio.wait([coming])

    async def _send(self, send: Send, body: bytes, *, is_more: bool) -> None:
        # A client that does not read must not hold a slot for ever.
        async with asyncio.timeout(SEND_S):
            await send({"type": "http.response.body", "body": body, "more_body": is_more})
