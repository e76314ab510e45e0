"""The engine as the replica's event loop sees it: a child process behind two pipes."""

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from runtime.errors import Corrupt, Unavailable
from runtime.limits import CHILD_STOP_S, ENGINE_HUNG_S, ENGINE_PING_S, WORKER_START_S
from runtime.lines import Line
from runtime.serve.engine.protocol import (
    EVENT,
    Cancel,
    Event,
    Failed,
    Imported,
    Load,
    Loaded,
    Piece,
    Ping,
    Pong,
    Start,
    Unfit,
)

log = logging.getLogger(__name__)

OnDeath = Callable[["Engine", str], None]


class Engine:
    """One engine process. Made by `start_engine`; used from one event loop.

    When the process dies, every open request gets Unavailable and `on_death` is called once.
    """

    def __init__(self, child: asyncio.subprocess.Process, on_death: OnDeath) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self._child = child
        self._commands, self._events = child.stdin, child.stdout
        self._on_death = on_death
        loop = asyncio.get_running_loop()
        self._imported: asyncio.Future[None] = loop.create_future()
        self._loaded: asyncio.Future[Loaded] = loop.create_future()
        self._open: dict[str, asyncio.Queue[Piece | Failed]] = {}
        self._heard_at = loop.time()
        self._is_stopping = False
        self.died: str | None = None  # why, once it is
        self._reader = asyncio.create_task(self._read())
        self._watch = asyncio.create_task(self._watch_steps())

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._child.pid

    @property
    def open_requests(self) -> int:
        """Requests that it works on or has queued."""
        return len(self._open)

    async def load(self, folder: Path, slots: int, queue: int) -> Loaded:
        """Load a model; raises Corrupt if it can't be served, Unavailable if the child dies."""
        async with asyncio.timeout(WORKER_START_S):
            await asyncio.shield(self._imported)
            self._send(Load(folder=str(folder), slots=slots, queue=queue))
            return await asyncio.shield(self._loaded)

    async def generate(self, ask: Start) -> AsyncGenerator[Piece, None]:
        """The pieces of one request; closing the generator early frees its slot."""
        if self.died is not None:
            raise Unavailable(self.died)
        answers = self._open[ask.id] = asyncio.Queue()
        is_over = False
        try:
            self._send(ask)
            while not is_over:
                answer = await answers.get()
                is_over = isinstance(answer, Failed) or answer.end is not None
                if isinstance(answer, Failed):
                    raise Unavailable(answer.why)
                yield answer
        finally:
            self._open.pop(ask.id, None)
            if not is_over:
                self._send(Cancel(id=ask.id))

    async def stop(self) -> None:
        """Close its input, which ends it; kill it if that does not."""
        self._is_stopping = True
        self._commands.close()
        try:
            async with asyncio.timeout(CHILD_STOP_S):
                await self._child.wait()
        except TimeoutError:
            self._child.kill()
        await self._reader

    def _send(self, line: Line) -> None:
        if self.died is None:
            self._commands.write(line.encode())

    async def _read(self) -> None:
        """Hand events to who waits for them until the child ends."""
        try:
            async for line in self._events:
                self._hear(EVENT.validate_json(line))
        except ValueError:  # no line of the protocol: nothing it says can be trusted any more
            log.exception("the engine process %d talks nonsense: killed", self.pid)
            self._child.kill()
        self._bury(await self._child.wait())

    def _hear(self, event: Event) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        match event:
            case Piece() | Failed():
                if waiting := self._open.get(event.id):
                    waiting.put_nowait(event)
            case Imported():
                self._imported.set_result(None)
            case Loaded():
                self._loaded.set_result(event)
            case Unfit():
                self._loaded.set_exception(Corrupt(event.why))
            case Pong():
                pass

    def _bury(self, status: int) -> None:
        self.died = (
            "this server is leaving"
            if self._is_stopping
            else f"the engine process ended with status {status}"
        )
        self._watch.cancel()
        for future in (self._imported, self._loaded):
            if not future.done():
                future.set_exception(Unavailable(self.died))
            future.exception()  # read, so that nobody is warned of an unread one
        for id, waiting in self._open.items():
            waiting.put_nowait(Failed(id=id, why=self.died))
        if not self._is_stopping:
            log.error("%s", self.died)
            self._on_death(self, self.died)

    async def _watch_steps(self) -> None:
        """Kill a child that has a model but finishes no step any more."""
        loop = asyncio.get_running_loop()
        await asyncio.wait([self._loaded])
        self._heard_at = loop.time()
        while loop.time() - self._heard_at < ENGINE_HUNG_S:
            self._send(Ping())
            await asyncio.sleep(ENGINE_PING_S)
        log.error("the engine process %d is silent for %.0f s: killed", self.pid, ENGINE_HUNG_S)
        self._child.kill()


async def start_engine(threads: int, on_death: OnDeath, stderr: int | None = None) -> Engine:
    """Start an engine process; it imports torch while the caller looks for a model."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "runtime.serve.engine.process",
        str(threads),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
    )
    return Engine(child, on_death)
