import asyncio
from collections.abc import AsyncGenerator, MutableMapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runtime.serve.api.events import PING, EventStream, split_events

Message = MutableMapping[str, Any]


class Client:
    """The far side of a connection: keeps what was sent, and goes when told to."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.closes = 0
        self.gone = asyncio.Event()
        self.is_complete = False

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self.bodies.append(message["body"])
            self.is_complete = not message["more_body"]

    async def closed(self) -> None:
        self.closes += 1


def test_events_are_sent_as_they_come_and_the_end_is_told() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        yield b"data: 2\n\n"

    async def scenario() -> Client:
        client = Client()
        await EventStream(events(), client.closed)({}, client.receive, client.send)
        return client

    client = asyncio.run(scenario())

    assert b"".join(client.bodies) == b"data: 1\n\ndata: 2\n\n"
    assert client.is_complete
    assert client.closes == 1


def test_a_silent_stream_pings() -> None:
    async def scenario() -> Client:
        client = Client()

        async def events() -> AsyncGenerator[bytes, None]:
            while client.bodies.count(PING) < 3:
                await asyncio.sleep(0)
            yield b"data: late\n\n"

        stream = EventStream(events(), client.closed, ping_s=0.001)
        await stream({}, client.receive, client.send)
        return client

    bodies = asyncio.run(scenario()).bodies

    assert bodies[:3] == [PING] * 3
    assert b"data: late\n\n" in bodies


def test_a_client_that_leaves_ends_the_events() -> None:
    async def scenario() -> tuple[Client, bool]:
        client = Client()
        is_ended = False

        async def events() -> AsyncGenerator[bytes, None]:
            nonlocal is_ended
            try:
                yield b"data: 1\n\n"
                client.gone.set()
                await asyncio.Event().wait()
            finally:
                is_ended = True

        await EventStream(events(), client.closed)({}, client.receive, client.send)
        return client, is_ended

    client, is_ended = asyncio.run(scenario())

    assert is_ended
    assert client.closes == 1
    assert not client.is_complete


@given(st.lists(st.sampled_from([b"data: x\n\n", PING, b"data: [DONE]\n\n"])), st.data())
def test_events_are_found_however_the_bytes_arrive(
    blocks: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(blocks)
    cut = data.draw(st.integers(0, len(whole)))

    first, rest = split_events(whole[:cut])
    second, rest = split_events(rest + whole[cut:])

    assert first + second == blocks
    assert rest == b""
