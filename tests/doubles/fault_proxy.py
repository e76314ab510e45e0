"""A TCP proxy that does what networks and busy stores do: a plan says what, call by call.

It runs in a thread of its own and passes bytes on unread, so signatures stay right. A call begins
where the client speaks after the server has: HTTP/1.1 without pipelining. Faults are drawn from a
seed by the number of the call, so a plan does not depend on how threads take turns.

    with FaultProxy(host, port) as proxy:
        proxy.set(Fault(Kind.LOSE_ANSWER))       # each call from now on
        proxy.set(at(3, Fault(Kind.RESET)))      # the third from now on
        proxy.set(Fault(delay_s=0.05))           # plain latency
"""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Self

CHUNK_BYTES = 64 << 10
DISCARD_S = 5.0  # what a client still sends after it was answered
RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: the kernel sends RST


class Kind(Enum):
    """What befalls a call."""

    NONE = auto()
    RESET = auto()  # before the server has heard of it
    BUSY = auto()  # the proxy answers, the server has not heard of it
    BLACKHOLE = auto()  # nothing comes through, nobody hears why
    HALF_OPEN = auto()  # the server hears and answers, the client waits
    LOSE_ANSWER = auto()  # the server hears and answers, the client gets a reset instead
    CUT = auto()  # half of the answer's first bytes, then the end
    CORRUPT = auto()  # one bit of the answer's body


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls a call, and how fast it is."""

    kind: Kind = Kind.NONE
    delay_s: float = 0.0
    jitter_s: float = 0.0  # at most, drawn by call, added to the delay
    bytes_s: float | None = None  # in each direction; None: as fast as it goes
    status: int = 503  # of BUSY
    code: str = ""  # of BUSY: what its body says, as S3 does


@dataclass(slots=True)
class Call:
    """One request and its answer."""

    number: int  # from 1, counted since the plan was set
    connection: int  # from 1
    fault: Fault = field(default_factory=Fault)
    is_answered: bool = False
    is_corrupted: bool = False


Plan = Callable[[Call], Fault]
WELL = Fault()


def at(number: int, fault: Fault) -> Plan:
    """One call fails, all others are well."""
    return lambda call: fault if call.number == number else WELL


def first(count: int, fault: Fault) -> Plan:
    """The first calls fail, then all is well."""
    return lambda call: fault if call.number <= count else WELL


def drawn(seed: int, faults: Sequence[Fault], share: float) -> Plan:
    """This share of all calls meets one of the faults."""

    def plan(call: Call) -> Fault:
        dice = random.Random(f"{seed} {call.number}")
        return dice.choice(faults) if dice.random() < share else WELL

    return plan


class FaultProxy:
    """Stands before `host:port` at `url`; well until it is told otherwise."""

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        self._target = (host, port)
        self._seed = seed
        self._plan: Plan = lambda _: WELL
        self._calls = 0
        self._connections = 0
        self.met: list[Kind] = []  # what befell each call, in order, since the plan was set
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._place = _bound(0)  # keeps the port while nobody listens
        self.port: int = self._place.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault proxy", daemon=True)
        self._thread.start()
        self.up()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def set(self, plan: Plan | Fault) -> None:
        """From the next call on; counts calls anew."""
        chosen: Plan = (lambda _: plan) if isinstance(plan, Fault) else plan

        async def change() -> None:
            self._plan, self._calls, self.met = chosen, 0, []

        self._do(change())

    def down(self) -> None:
        """Connections are reset, new ones refused."""
        self._do(self._stop())

    def up(self) -> None:
        """Connections are accepted again."""
        self._do(self._start())

    def close(self) -> None:
        """End all connections and the thread."""
        if self._loop.is_closed():
            return
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._place.close()

    def _do(self, deed: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(deed, self._loop).result()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        rest = asyncio.all_tasks(self._loop)
        for task in rest:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))

    async def _start(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, sock=_bound(self.port), backlog=128
            )

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in [*self._writers]:
            _reset(writer)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            server, to_server = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(to_client)
            return
        self._connections += 1
        link = _Link(self, self._connections, to_client, to_server)
        self._writers |= {to_client, to_server}
        up = asyncio.create_task(link.pass_up(client))
        down = asyncio.create_task(link.pass_down(server))
        try:
            await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            return  # the proxy is closing
        finally:
            self._writers -= {to_client, to_server}
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            for writer in (to_client, to_server):
                writer.close()

    def _begin(self, connection: int) -> tuple[Call, float]:
        """The next call of a connection, and how long it is held back."""
        self._calls += 1
        call = Call(number=self._calls, connection=connection)
        call.fault = self._plan(call)
        self.met.append(call.fault.kind)
        dice = random.Random(f"{self._seed} {call.number} jitter")
        return call, call.fault.delay_s + dice.uniform(0, call.fault.jitter_s)


class _Link:
    """One connection: its two directions, and the call that is under way."""

    def __init__(
        self,
        proxy: FaultProxy,
        number: int,
        to_client: asyncio.StreamWriter,
        to_server: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._number = number
        self._to_client = to_client
        self._to_server = to_server
        self._call: Call | None = None

    async def pass_up(self, client: asyncio.StreamReader) -> None:
        """Client to server."""
        while data := await client.read(CHUNK_BYTES):
            call = self._call
            if call is None or call.is_answered:
                call, wait_s = self._proxy._begin(self._number)
                self._call = call
                await asyncio.sleep(wait_s)
                if client.at_eof():
                    return  # who gave up meanwhile is not served late
            match call.fault.kind:
                case Kind.RESET:
                    _reset(self._to_client)
                    return
                case Kind.BUSY:
                    await self._be_busy(client, call.fault)
                    return
                case Kind.BLACKHOLE:
                    continue
                case _:
                    await _send(self._to_server, data, call.fault.bytes_s)

    async def pass_down(self, server: asyncio.StreamReader) -> None:
        """Server to client."""
        while data := await server.read(CHUNK_BYTES):
            call = self._call
            if call is None:
                return
            call.is_answered = call.fault.kind is not Kind.HALF_OPEN
            match call.fault.kind:
                case Kind.LOSE_ANSWER:
                    _reset(self._to_client)
                    return
                case Kind.CUT:
                    await _send(self._to_client, data[: len(data) // 2], None)
                    return
                case Kind.HALF_OPEN:
                    continue
                case Kind.CORRUPT if not call.is_corrupted:
                    body = data.find(b"\r\n\r\n") + 4 if data.startswith(b"HTTP/") else 0
                    if body < len(data):
                        place = (body + len(data)) // 2
                        data = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
                        call.is_corrupted = True
            await _send(self._to_client, data, call.fault.bytes_s)

    async def _be_busy(self, client: asyncio.StreamReader, fault: Fault) -> None:
        body = f"<Error><Code>{fault.code}</Code></Error>" if fault.code else ""
        head = f"HTTP/1.1 {fault.status} -\r\nContent-Length: {len(body)}\r\nConnection: close"
        await _send(self._to_client, f"{head}\r\n\r\n{body}".encode(), None)
        try:
            async with asyncio.timeout(DISCARD_S):  # unread bytes would turn the end into a reset
                while await client.read(CHUNK_BYTES):
                    pass
        except TimeoutError:
            return


async def _send(writer: asyncio.StreamWriter, data: bytes, bytes_s: float | None) -> None:
    step = len(data) if bytes_s is None else max(1, int(bytes_s / 20))
    for start in range(0, len(data), step):
        piece = data[start : start + step]
        writer.write(piece)
        await writer.drain()
        if bytes_s is not None:
            await asyncio.sleep(len(piece) / bytes_s)


def _bound(port: int) -> socket.socket:
    # Said in full, since asyncio turns Nagle's delay off only where it sees that it is TCP.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
    writer.transport.abort()
