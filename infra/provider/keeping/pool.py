"""The nodes of a pool: how many there are, and how they change over to a new file.

Grows and shrinks at the high end. Serving nodes change over one at a time, each only after the one
before it is up again, so a file that does no good stops at the first of them.
"""

import asyncio
import logging
import os
from collections.abc import Mapping

from infra.clouds.local.processes import marked
from infra.provider.keeping.environment import mark
from infra.provider.keeping.node import HeldNode
from infra.provider.keeping.pauses import AGAIN_S_MAX
from infra.provider.keeping.pool_file import PoolFile, read_size, write_size
from runtime.clouds.local import PoolDescription
from runtime.coordination.log import LAST_WORDS, PoolLog
from runtime.errors import Refused
from runtime.objects import Store

ROLL_S = 180.0  # for one node to leave nothing and come up again, on a loaded machine
LOOK_S = 0.2  # its presence is read this often meanwhile

log = logging.getLogger(__name__)


class HeldPool:
    """Holds the nodes of one pool. All methods belong to the keeper's event loop."""

    def __init__(self, file: PoolFile, control: Store, passed: Mapping[str, str]) -> None:
        self.file = file
        self.target = read_size(file)
        self._control = control
        self._passed = passed
        self._nodes: dict[int, HeldNode] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._roll: asyncio.Task[None] | None = None
        self._is_stopping = False

    def start(self) -> None:
        """Take over the nodes that live, start those that are missing, end those too many."""
        for index in self._living():
            self._hold(index)
        self._settle()
        if self.file.role != "training":  # members of a run change over with the next run
            self._roll = asyncio.create_task(self._roll_all())

    def set_size(self, size: int) -> None:
        """Change how many nodes are wanted; raises Refused."""
        if self._is_stopping:
            raise Refused("the pool is being stopped")
        if not 0 <= size <= self.file.size_max:
            raise Refused(f"size: found {size}; allowed 0 to {self.file.size_max}")
        self.target = size
        try:
            write_size(self.file, size)
        except OSError as fault:  # a new keeper would go on with the one before
            log.error("size %d not remembered: %s", size, fault)
        self._settle()

    def reclaim(self, name: str, after_s: float) -> None:
        """Give a node notice, as a cloud does with a spot machine; raises Refused."""
        for node in self._nodes.values():
            if node.node == name and node.process is not None:
                node.reclaim(after_s)
                return
        running = ", ".join(n.node for n in self._nodes.values() if n.process is not None)
        raise Refused(f"reclaim: found {name!r}; allowed a node that runs: {running or 'none'}")

    async def reload(self, file: PoolFile) -> None:
        """Go by a new file: at once for what does not run, one by one for what serves."""
        if self._is_stopping:
            raise Refused("the pool is being stopped")
        if self._roll is not None:
            self._roll.cancel()
        self.file = file
        self.target = min(self.target, file.size_max)
        for node in self._nodes.values():
            node.file = file
            if node.process is None:
                node.start_anew()
        self._settle()
        if file.role != "training":
            self._roll = asyncio.create_task(self._roll_all())
        elif not await asyncio.to_thread(self._has_open_run):
            for node in self._nodes.values():
                if node.is_stale:
                    node.start_anew()

    async def stop(self) -> None:
        """End all nodes; returns when they have left."""
        self._is_stopping = True
        if self._roll is not None:
            self._roll.cancel()
        for node in self._nodes.values():
            node.leave()
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()))

    def describe(self) -> PoolDescription:
        """As it is seen from outside."""
        nodes = tuple(self._nodes[index].describe() for index in sorted(self._nodes))
        return PoolDescription(
            pool=self.file.pool,
            size=len(nodes),
            target=self.target,
            pid=os.getpid(),
            nodes=nodes,
        )

    def _settle(self) -> None:
        for index in range(self.target):
            if index in self._nodes:
                self._nodes[index].stay()
            else:
                self._hold(index)
        for index, node in self._nodes.items():
            if index >= self.target:
                node.leave()

    def _hold(self, index: int) -> None:
        node = HeldNode(self.file, index, self._control, self._passed)
        self._nodes[index] = node
        self._tasks[index] = asyncio.create_task(self._keep(index, node))

    async def _keep(self, index: int, node: HeldNode) -> None:
        while True:
            try:
                await node.hold()
            except Exception:  # a fault of ours in one node must not let go of the others
                log.exception("%s: held no more; again in %.0f s", node.node, AGAIN_S_MAX)
                await asyncio.sleep(AGAIN_S_MAX)
            if node.is_leaving and node.process is None:
                break
        del self._nodes[index], self._tasks[index]

    def _living(self) -> list[int]:
        """Indexes of the nodes whose processes an earlier keeper left."""
        begin = mark(self.file.stack_id, self.file.pool)
        names = {process.token[len(begin) :].split("/")[0] for process in marked(begin)}
        tails = {name.removeprefix(f"{self.file.pool}-") for name in names}
        return sorted(int(tail) for tail in tails if tail.isdigit())

    async def _roll_all(self) -> None:
        for index in sorted(self._nodes):
            node = self._nodes.get(index)
            if node is None or not node.is_stale or node.is_leaving:
                continue
            if not await self._replace(node):
                log.error("%s: not up by its new file; the others stay as they are", node.node)
                return

    async def _replace(self, node: HeldNode) -> bool:
        """Start one node by the new file; whether it is up again, ready if it was ready."""
        before = await asyncio.to_thread(node.presence)
        was_ready = before is not None and before.state == "ready"
        old = node.process
        log.info("%s: replaced, its file has changed", node.node)
        node.start_anew()
        deadline = asyncio.get_running_loop().time() + self.file.stop_s + ROLL_S
        while asyncio.get_running_loop().time() < deadline and not node.is_leaving:
            said = await asyncio.to_thread(node.presence)
            state = said.state if said is not None and node.process != old else "starting"
            if node.failures or state in LAST_WORDS:
                return False
            if state == "ready" or (state != "starting" and not was_ready):
                return True
            await asyncio.sleep(LOOK_S)
        return node.is_leaving

    def _has_open_run(self) -> bool:
        return PoolLog(self._control, self.file.pool, "keeper").state().open_run is not None
