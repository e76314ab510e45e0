"""A short answer leaves in one write, so that a kill can't cut it in two."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from runtime.serve.listen import serving
from runtime.serve.transport import Gathered

ADDRESS = "127.0.0.1"


class Recorder(asyncio.Transport):
    """A transport that keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.ended = ""

    def write(self, data: Any) -> None:
        assert not self.ended, "written to after its end"
        self.sent.append(bytes(data))

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def is_closing(self) -> bool:
        return bool(self.ended)


def application() -> FastAPI:
    """An answer in one piece, and one in three."""
    app = FastAPI()

    @app.get("/whole")
    def whole() -> dict[str, str]:
        return {"said": "all at once"}

    @app.get("/parts")
    def parts() -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            for number in range(3):
                await asyncio.sleep(0.01)  # a token takes its time
                yield f"data: {number}\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")

    return app


def sends(path: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[bytes]]:
    """The body of an answer, and what the server handed to the kernel, call by call."""
    calls: list[bytes] = []
    with socket.create_server((ADDRESS, 0)) as free:
        port = free.getsockname()[1]
    send = socket.socket.send

    def recorded(self: socket.socket, data: Any, *flags: int) -> int:
        if self.getsockname() == (ADDRESS, port):
            calls.append(bytes(data))
        return send(self, data, *flags)

    async def ask() -> str:
        async with (
            serving(application(), ADDRESS, port),
            httpx.AsyncClient(trust_env=False) as client,
        ):
            return (await client.get(f"http://{ADDRESS}:{port}{path}")).text

    monkeypatch.setattr(socket.socket, "send", recorded)
    return asyncio.run(ask()), calls


def test_head_and_body_are_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    body, calls = sends("/whole", monkeypatch)

    assert body == '{"said":"all at once"}'
    [whole] = calls
    assert whole.startswith(b"HTTP/1.1 200")
    assert whole.endswith(body.encode())


def test_a_stream_is_sent_as_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    body, calls = sends("/parts", monkeypatch)

    assert body == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert len([call for call in calls if b"data:" in call]) == 3


def test_what_was_written_before_the_end_is_sent_before_it() -> None:
    async def written() -> Recorder:
        inner = Recorder()
        gathered = Gathered(inner)
        gathered.writelines([b"head ", bytearray(b"and ")])
        gathered.write(memoryview(b"body"))
        gathered.close()
        await asyncio.sleep(0)
        return inner

    inner = asyncio.run(written())

    assert inner.sent == [b"head and body"]
    assert inner.ended == "closed"


def test_of_an_aborted_answer_nothing_is_sent() -> None:
    async def written() -> Recorder:
        inner = Recorder()
        gathered = Gathered(inner)
        gathered.write(b"half of it")
        gathered.abort()
        await asyncio.sleep(0)
        return inner

    inner = asyncio.run(written())

    assert inner.sent == []
    assert inner.ended == "aborted"


def test_a_peer_that_has_gone_is_not_written_to() -> None:
    async def written() -> Recorder:
        inner = Recorder()
        gathered = Gathered(inner)
        gathered.write(b"too late")
        inner.close()  # the connection is lost before the turn ends
        await asyncio.sleep(0)
        return inner

    assert asyncio.run(written()).sent == []
