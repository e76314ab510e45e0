"""Timer of a training pool: starts runs when they are due, and ends what nobody lives in.

Any number of keepers may keep the time of one pool: the pool's log gives each due time to one of
them. Ticks are measured by the store's clock; the machine's own only says when to look.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from infra.provider.keeping.pool_file import PoolFile
from runtime.coordination.log import PoolLog, RunEntry, is_live, read_presence, store_now
from runtime.coordination.ticks import claim_due, due_tick, tick_run
from runtime.limits import ALIVE_S, JOIN_GRACE_S
from runtime.objects import Store

TICK_WINDOW_S = 900.0  # a due time that nobody was there for is made up for within this
DEAD_RUN_S = 60.0  # a run without a living member for this long has failed
BUSY_LOOK_S = 5.0  # between looks while there is a run or a node
IDLE_LOOK_S = 20.0  # between looks at rest: a machine that slept must not miss a tick by more
AFTER_S = 0.05  # after a tick: a file's time may be a little behind the clock (a few ms, Linux)

assert DEAD_RUN_S > ALIVE_S
assert BUSY_LOOK_S < JOIN_GRACE_S, "a claim must be seen while it is young"
assert IDLE_LOOK_S < JOIN_GRACE_S
assert IDLE_LOOK_S < TICK_WINDOW_S

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Unwell:
    """Something that must not last, and since when (monotonic seconds) it is seen."""

    what: str
    since: float


class Timer:
    """Looks at one pool's log, one look at a time; says which size the pool shall have."""

    def __init__(
        self, file: PoolFile, control: Store, writer: str, monotonic: Callable[[], float]
    ) -> None:
        self.file = file
        self._monotonic = monotonic
        self._control = control
        self._asker = f"keeper-{file.pool}"
        self._log = PoolLog(control, file.pool, writer)
        self._unwell: Unwell | None = None

    def look(self, target: int) -> int | None:
        """Claim or skip a due run, end a dead one; the new size, or None if it may stay `target`.

        Raises Unavailable and its like: look again.
        """
        now = store_now(self._control, self._asker)
        run = self._log.state().open_run
        if run is None and (claimed := self._claim(now)) is not None:
            log.info("run %s: due, claimed", claimed)
            return self.file.size_max
        run = self._log.state().open_run
        if run is None:
            return self._rest(target)
        self._skip(run, now)
        return self._watch_over(run, target, now)

    def pause_s(self, target: int, now: datetime) -> float:
        """Until the next look; `now` by the machine's clock."""
        longest = BUSY_LOOK_S if target or self._unwell else IDLE_LOOK_S
        if self.file.schedule is None:
            return longest
        until_tick = (self.file.schedule.next_tick(now) - now).total_seconds()
        return min(longest, until_tick + AFTER_S)

    def _claim(self, now: datetime) -> str | None:
        if self.file.schedule is None:
            return None
        return claim_due(self._log, self.file.schedule, now, TICK_WINDOW_S)

    def _skip(self, run: RunEntry, now: datetime) -> None:
        """Log a tick that fell into a run, so that it does not start another after it."""
        schedule = self.file.schedule
        tick = due_tick(schedule, now, TICK_WINDOW_S) if schedule else None
        if tick is None or tick in self._log.state().ticks:
            return
        if self._log.skip(tick_run(tick), tick, f"run {run.run} was open", datetime.now(UTC)):
            log.info("tick %s: skipped, run %s is open", tick, run.run)

    def _rest(self, target: int) -> int | None:
        """Without a run the pool rests; its nodes leave by themselves, if they can."""
        if target <= self.file.size:
            self._unwell = None
        elif self._lasts("no run"):
            log.warning("no run for %.0f s: size %d", DEAD_RUN_S, self.file.size)
            return self.file.size
        return None

    def _watch_over(self, run: RunEntry, target: int, now: datetime) -> int | None:
        is_young = now - run.claimed_at < timedelta(seconds=JOIN_GRACE_S)
        if is_young and target == 0:
            return self.file.size_max  # whoever claimed it died before the pool grew
        if is_live(run, read_presence(self._control), now):
            self._unwell = None
        elif self._lasts(run.run):
            why = f"no member was alive for {DEAD_RUN_S:.0f} s"
            if self._log.end(run.run, "failed", why, datetime.now(UTC)):
                log.warning("run %s: %s: ended", run.run, why)
            return self.file.size
        return None

    def _lasts(self, what: str) -> bool:
        """Whether this has been so at every look for too long."""
        if self._unwell is None or self._unwell.what != what:
            self._unwell = Unwell(what=what, since=self._monotonic())
            return False
        if self._monotonic() - self._unwell.since < DEAD_RUN_S:
            return False
        self._unwell = None
        return True
