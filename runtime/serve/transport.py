"""One write per turn of the event loop, so that a short answer leaves whole or not at all.

A server writes the head of an answer and its body apart. Killed between the two it leaves a head
without a body, which no balancer may ask for again (seen through Envoy in about one of 60 kills of
a gateway with 16 requests open).
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class Gathered(asyncio.Transport):
    """A transport that sends what was written in one turn of the loop at its end."""

    def __init__(self, inner: asyncio.Transport) -> None:
        super().__init__()
        self._inner = inner
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it until the end of this turn."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """See `write`."""
        for data in list_of_data:
            self.write(data)

    def close(self) -> None:
        """Send the rest, then close."""
        self._flush()
        self._inner.close()

    def abort(self) -> None:
        """Drop the rest."""
        self._parts.clear()
        self._inner.abort()

    def is_closing(self) -> bool:
        """As the transport below."""
        return self._inner.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As the transport below."""
        return self._inner.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """As the transport below."""
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        """As the transport below."""
        self._inner.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """As the transport below."""
        self._inner.set_protocol(protocol)

    def _flush(self) -> None:
        if self._parts and not self._inner.is_closing():
            self._inner.write(b"".join(self._parts))
        self._parts.clear()


class GatheredProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 over a gathered transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Gathered(transport))
