"""A training node: finds its pool's run, takes part in it, and rests when it has ended.

No torch in this process; the worker child has it.
"""

import logging
import queue
import time
from collections.abc import Callable

from runtime.clouds import Notice, NoticeWatch, cloud_of
from runtime.coordination.log import PoolLog, RunEntry, store_now
from runtime.coordination.ticks import claim_due
from runtime.errors import Refused, Unavailable
from runtime.limits import POLL_CLAIM_S
from runtime.role import Node
from runtime.train.child import Child
from runtime.train.session import Session

IDLE = "idle"
TICK_WINDOW_S = 15 * 60.0  # a due time older than this is not caught up with

log = logging.getLogger("agent")


def run(node: Node) -> None:
    """Take part in one run after another until told to leave."""
    train = node.spec.train
    if train is None:
        raise Refused(f"node {node.spec.node}: found no `train` in its spec, which training needs")
    Agent(node, time.monotonic).run()


class Agent:
    """One training node."""

    def __init__(self, node: Node, clock: Callable[[], float]) -> None:
        self._node = node
        self._clock = clock
        self._inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._noticed: Notice | None = None
        self._pool_log = PoolLog(node.control, node.spec.pool, node.spec.node)

    def run(self) -> None:
        """Until told to leave, by its operator or by its cloud's notice."""
        cloud = cloud_of(self._node.spec)
        watch = NoticeWatch(cloud, self._notice)
        watch.start()
        try:
            self._take_part()
        finally:
            watch.close()
        if self._noticed is not None:
            try:
                cloud.release(self._noticed)
            except (Unavailable, Refused) as fault:
                log.warning("the cloud waits for its deadline: %s", fault)

    def _notice(self, notice: Notice) -> None:
        """From the watch's thread: what is idle leaves at once, a session when it can."""
        self._noticed = notice
        self._inbox.put(notice)

    def _take_part(self) -> None:
        assert self._node.spec.train is not None, "looked at before"
        while not self._is_leaving:
            # One of its own for each run: threads of the last one may still have news of it.
            self._inbox = inbox = queue.SimpleQueue[object]()
            if self._noticed is not None:  # just now
                return
            # Imports torch while a run is looked for.
            child = Child(inbox, self._node.stderr)
            entry = self._find_run(child)
            if entry is None:
                return
            log.info("run %s", entry.run)
            Session(self._node, self._node.spec.train, entry, child, inbox, self._clock).work()

    @property
    def _is_leaving(self) -> bool:
        return self._noticed is not None or self._node.leaving.is_set()

    def _find_run(self, child: Child) -> RunEntry | None:
        """The pool's open run, claimed by us if its time has come; None to leave."""
        while not self._is_leaving:
            try:
                entry = self._open_run()
            except Unavailable as fault:
                log.warning("%s", fault)
                entry = None
            if entry is not None:
                return entry
            self._node.heart.say(
                state=IDLE, why="", run=None, epoch=None, step=0, loss=None, tokens_per_s=None
            )
            self._node.leaving.wait(POLL_CLAIM_S)
        child.stop()
        return None

    def _open_run(self) -> RunEntry | None:
        entry = self._pool_log.state().open_run
        train = self._node.spec.train
        if entry is None and train is not None and train.schedule is not None:
            now = store_now(self._node.control, self._node.spec.node)
            if claim_due(self._pool_log, train.schedule, now, TICK_WINDOW_S) is not None:
                entry = self._pool_log.state().open_run
        return entry
