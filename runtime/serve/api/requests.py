"""Read a request: its body within limits, and whether its sender is still there."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from runtime.limits import BODY_DISCARD_BYTES, BODY_READ_S, REQUEST_BODY_BYTES
from runtime.serve.api.errors import ApiError, invalid_body, too_large

BodyT = TypeVar("BodyT", bound=BaseModel)
Result = TypeVar("Result")

CLIENT_CLOSED = 499  # nobody reads it; it stands in metrics


async def read_body(request: Request) -> bytes:
    """The body; raises ApiError if it is too large or too slow. Never holds more than allowed."""
    try:
        async with asyncio.timeout(BODY_READ_S):
            return await _read_capped(request)
    except TimeoutError:
        raise ApiError(
            408, f"body: allowed {BODY_READ_S:.0f} s", headers={"Connection": "close"}
        ) from None
    except ClientDisconnect:
        raise ApiError(CLIENT_CLOSED, "the client has gone") from None


async def _read_capped(request: Request) -> bytes:
    body = bytearray()
    seen_bytes = 0
    async for chunk in request.stream():
        seen_bytes += len(chunk)
        if seen_bytes <= REQUEST_BODY_BYTES:
            body += chunk
        elif seen_bytes > BODY_DISCARD_BYTES:
            break
    # A sender that is still writing would meet a reset instead of the answer, so some is read.
    if seen_bytes > REQUEST_BODY_BYTES:
        raise too_large(REQUEST_BODY_BYTES)
    return bytes(body)


def parse(kind: type[BodyT], body: bytes) -> BodyT:
    """The body as a model; raises ApiError with all its faults."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as fault:
        raise invalid_body(fault) from None


async def gone(receive: Receive) -> None:
    """Return once the client has closed; the body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(request: Request, work: Coroutine[None, None, Result]) -> Result:
    """The result of `work`, which is cancelled if the client leaves first.

    Nobody else does that for an answer that is not streamed: the slot would stay taken.
    """
    working = asyncio.create_task(work)
    watching = asyncio.create_task(gone(request.receive))
    try:
        await asyncio.wait([working, watching], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError(CLIENT_CLOSED, "the client has gone")
        return working.result()
    finally:
        watching.cancel()
        working.cancel()
        await asyncio.wait([working, watching])
