"""One node for as long as its pool wants it: started, started again when it dies, asked to leave.

A node runs in a session of its own and outlives its keeper; the next keeper finds it by the token
in its environment. A node that ends, for whatever reason, is started again with a growing pause.
"""

import asyncio
import logging
import os
import secrets
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import ValidationError

from infra.checkout import replace_file
from infra.clouds.local.processes import (
    KILLED_S,
    ProcessId,
    end_marked,
    end_rest,
    ended,
    marked,
    open_handle,
    reap,
    send,
    spawn_daemon,
)
from infra.plan.names import node_address, node_name
from infra.provider import node_boot
from infra.provider.keeping.environment import mark
from infra.provider.keeping.pauses import STEADY_S, again_s
from infra.provider.keeping.pool_file import PoolFile
from runtime.clouds.local import NodeDescription
from runtime.coordination.log import LAST_WORDS, Presence
from runtime.errors import AtollError
from runtime.node_spec import NodeSpec
from runtime.objects import Store

AGAIN_REFUSED_S = 60.0  # after a refusal, which somebody has to mend

log = logging.getLogger(__name__)


class HeldNode:
    """Holds one node in a task of its own, from `hold()` on until it has left."""

    def __init__(
        self, file: PoolFile, index: int, control: Store, passed: Mapping[str, str]
    ) -> None:
        self.file = file  # what the next start goes by
        self.node = node_name(file.pool, index)
        self.restarts = 0
        self.failures = 0  # ends by itself in a row, since it was well or started anew
        self.is_leaving = False
        self.process: ProcessId | None = None
        self._index = index
        self._folder = file.node_folder(index)
        self._control = control
        self._passed = passed
        self._ran_by: NodeSpec | None = None  # None also if its node file can't be read
        self._is_stopping = False
        self._asked = asyncio.Event()  # to look at what is wanted, now
        self._leave_by: datetime | None = None  # None: the process has no notice
        self._taking: asyncio.Task[None] | None = None  # kills it then

    @property
    def is_stale(self) -> bool:
        """Whether its process goes by a node file that has changed since."""
        return self.process is not None and self._ran_by != self.file.node_spec(self._index)

    def describe(self) -> NodeDescription:
        """As it is seen from outside."""
        running: Literal["running", "stopping"] = "stopping" if self._is_stopping else "running"
        return NodeDescription(
            node=self.node,
            index=self._index,
            address=node_address(self.file.stack_id, self.file.role, self._index),
            pid=self.process.pid if self.process else None,
            state=running if self.process else "backing-off",
            restarts=self.restarts,
            is_stale=self.is_stale,
            leave_by=self._leave_by,
        )

    def reclaim(self, after_s: float) -> None:
        """Give the process notice: after so long it is killed, and a new one started.

        The notice goes with the process, and with this keeper: the next one does not know of it.
        """
        assert self.process is not None
        log.info("%s: pid %d reclaimed in %.1f s", self.node, self.process.pid, after_s)
        self._leave_by = datetime.now(UTC) + timedelta(seconds=after_s)
        if self._taking is not None:
            self._taking.cancel()
        self._taking = asyncio.create_task(_take(self.process, after_s))

    def leave(self) -> None:
        """Stop the process and end `hold`."""
        self.is_leaving = True
        self._asked.set()

    def stay(self) -> None:
        """Take a `leave` back, if there is still time."""
        self.is_leaving = False

    def start_anew(self) -> None:
        """Stop the process, if there is one, and start it at once by the newest file."""
        self.failures = 0
        if self.process is None:
            self._forget_presence(frozenset())  # nobody shall take the old word for the new one
        self._asked.set()

    def presence(self) -> Presence | None:
        """What the process that runs now says of itself; None if it has said nothing yet."""
        try:
            said = Presence.model_validate_json(self._control.get(f"nodes/{self.node}"))
        except (AtollError, ValidationError):
            return None
        return said if self.process is not None and said.pid == self.process.pid else None

    async def hold(self) -> None:
        """Keep the node running until it is told to leave."""
        self._adopt()
        while not self.is_leaving:
            if self.process is None:
                await self._start()
            pause_s = await self._watch() if self.process else again_s(self.failures)
            if not self.is_leaving:
                await self._pause(pause_s)
                self.restarts += 1
        if self.process is not None:  # adopted, only to leave
            await self._watch()
        await asyncio.to_thread(self._forget_presence, LAST_WORDS)

    def _adopt(self) -> None:
        """Go on with the process that an earlier keeper started."""
        found = marked(mark(self.file.stack_id, self.file.pool, self.node))
        if not found:
            return
        self.process = found[0]  # the oldest; others are its children
        try:
            text = (self._folder / "node.json").read_bytes()
            self._ran_by = NodeSpec.model_validate_json(text)
        except (OSError, ValidationError):
            self._ran_by = None
        log.info("%s: adopted pid %d", self.node, self.process.pid)

    async def _start(self) -> None:
        try:
            self.process = await asyncio.to_thread(self._spawn)
        except OSError as fault:  # disk full, no more processes
            log.error("%s: not started: %s", self.node, fault)
            self.failures += 1
        else:
            log.info("%s: started pid %d", self.node, self.process.pid)

    def _spawn(self) -> ProcessId:
        token_begin = mark(self.file.stack_id, self.file.pool, self.node)
        end_marked(token_begin)  # a child of the last one may hold its port
        self._forget_presence(frozenset())
        temporary = self._folder / "tmp"  # nothing that a node leaves lies outside its folder
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        spec = self.file.node_spec(self._index)
        replace_file(self._folder / "node.json", spec.model_dump_json(indent=1))
        environment = self.file.environment(self._passed, token_begin + secrets.token_hex(8))
        process = spawn_daemon(
            [self.file.python, "-P", node_boot.__file__, str(self._folder)],
            {**environment, "TMPDIR": str(temporary)},
            self._folder,
            self._folder / "node.log",
        )
        self._ran_by = spec
        return process

    async def _watch(self) -> float:
        """Until the process has ended, by itself or because it was asked; the pause to make."""
        assert self.process is not None
        loop = asyncio.get_running_loop()
        process, started = self.process, loop.time()
        handle = open_handle(process)
        if handle is not None:
            try:
                is_asked = await self._until_ended(process, handle)
            finally:
                os.close(handle)
        else:
            is_asked = self._asked.is_set()
        await asyncio.to_thread(end_rest, process)  # before it is reaped: see there
        status = reap(process.pid)
        self.process, self._is_stopping = None, False
        is_reclaimed, self._leave_by = self._leave_by is not None, None  # a new one: a new machine
        self._asked.clear()
        if is_asked or is_reclaimed:
            log.info("%s: pid %d has left (status %s)", self.node, process.pid, status)
            return 0.0
        log.warning("%s: pid %d ended by itself (status %s)", self.node, process.pid, status)
        if loop.time() - started > STEADY_S:
            self.failures = 0
        self.failures += 1
        return node_again_s(self.failures, status)

    async def _until_ended(self, process: ProcessId, handle: int) -> bool:
        """Whether it was asked to; kills what does not leave in time."""
        ending = asyncio.create_task(ended(handle))
        asked = asyncio.create_task(self._asked.wait())
        try:
            await asyncio.wait({ending, asked}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                return self._asked.is_set()
            self._is_stopping = True
            send(handle, signal.SIGTERM)
            await asyncio.wait({ending}, timeout=self.file.stop_s)
            if not ending.done():
                log.warning("%s: pid %d did not leave: killed", self.node, process.pid)
                await asyncio.to_thread(end_rest, process)
                send(handle, signal.SIGKILL)
                await asyncio.wait({ending}, timeout=KILLED_S)
            return True
        finally:
            ending.cancel()
            asked.cancel()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), seconds)
        self._asked.clear()

    def _forget_presence(self, kept: frozenset[str]) -> None:
        """Remove the word of a process that is gone, unless it tells how it went."""
        key = f"nodes/{self.node}"
        try:
            if Presence.model_validate_json(self._control.get(key)).state not in kept:
                self._control.delete(key)
        except (AtollError, ValidationError) as fault:
            log.debug("%s: presence not removed: %s", self.node, fault)


async def _take(process: ProcessId, after_s: float) -> None:
    """Kill a process and all of its session after so long, as if its machine were gone."""
    await asyncio.sleep(after_s)
    handle = open_handle(process)
    if handle is not None:
        try:
            await asyncio.to_thread(end_rest, process)
            send(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def node_again_s(failures: int, status: int | None) -> float:
    """Pause before a node that ended by itself is started again; `failures` in a row, from 1."""
    return AGAIN_REFUSED_S if status == node_boot.EXIT_REFUSED else again_s(failures)
