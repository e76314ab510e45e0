"""How a run ends: the model is published, the pool's log says so, the pool goes to rest."""

import logging
import threading
from datetime import datetime
from pathlib import Path

from runtime.clouds import cloud_of
from runtime.coordination.log import Outcome, PoolLog, RunEntry
from runtime.coordination.rendezvous import Rendezvous
from runtime.coordination.ticks import tick_run, ticks_between
from runtime.errors import Refused, Unavailable
from runtime.node_spec import NodeSpec
from runtime.objects import Store, open_store
from runtime.registry import publish
from runtime.train.protocol import Done

STORE_TRIES = 30  # a store that is away for a minute must not cost a trained model
STORE_AGAIN_S = 2.0

log = logging.getLogger("agent")


class Ending:
    """Ends one run, from one node."""

    def __init__(
        self, spec: NodeSpec, control: Store, rendezvous: Rendezvous, leaving: threading.Event
    ) -> None:
        self._spec = spec
        self._control = control
        self._rendezvous = rendezvous
        self._leaving = leaving

    def published(self, entry: RunEntry, done: Done) -> None:
        """Publish what the last step left, make it live, and end the run.

        Raises Unavailable if the store stays away; another member can do all of it again.
        """
        why = ""
        for _ in range(STORE_TRIES):
            try:
                self._publish(entry, done)
                self.end("published", "")
            except Unavailable as fault:
                why = str(fault)
                log.warning("not published yet: %s", fault)
                if self._leaving.wait(STORE_AGAIN_S):
                    break
            else:
                return
        raise Unavailable(f"run {entry.run} not published: {why}")

    def end(self, outcome: Outcome, why: str) -> None:
        """End the run unless it has ended, and let the pool rest."""
        log.info("run %s ends: %s %s", self._rendezvous.run, outcome, why)

        def write(pool_log: PoolLog, now: datetime) -> bool:
            # Before the end: afterwards the tick would look like one to claim.
            self._skip_ticks(pool_log, now)
            return pool_log.end(self._rendezvous.run, outcome, why, now)

        self._rendezvous.end(write)
        self._rendezvous.close(why or outcome)
        try:
            cloud_of(self._spec).set_size(0)
        except (Unavailable, Refused) as fault:
            log.warning("the pool's size stays: %s", fault)

    def _publish(self, entry: RunEntry, done: Done) -> None:
        train = self._spec.train
        assert train is not None, "a training node"
        assert done.folder is not None, "the first member's"
        version = publish(
            open_store(self._spec.stores.models),
            self._control,
            train.model_name,
            Path(done.folder),
            entry.run,
            entry.number,
            step=done.step,
            metrics=done.metrics,
            writer=self._spec.node,
            at=self._rendezvous.now(),
        )
        log.info("published %s %s", version.name, version.digest)

    def _skip_ticks(self, pool_log: PoolLog, now: datetime) -> None:
        train = self._spec.train
        state = pool_log.state()
        if train is None or train.schedule is None or state.open_run is None:
            return
        run = self._rendezvous.run
        for tick in ticks_between(train.schedule, state.open_run.claimed_at, now):
            pool_log.skip(tick_run(tick), tick, f"fell into {run}", now)
