"""A pool of members on simulated time: crashes, freezes, partitions, a slow store; one seed.

The members are the real ones. Workers, links and the store are models of a few lines: a worker
holds a state, which is the digest of how it came to be, so two histories can never look alike.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, pairwise
from random import Random

from runtime.coordination import membership as m
from runtime.coordination import next_epoch
from runtime.coordination.log import EpochRecord
from runtime.limits import HEARTBEAT_S

STEP_S = 0.3
TICK_S = 0.25
REPLACE_S = 5.0  # from a leave to the boot of a new machine
READ_S = 1.0  # between two looks at the log
KNOWN_S = 15.0  # by then everybody has read that a group is at work
BLOWS = ("kill", "notice", "start", "worker", "freeze", "thaw", "split", "heal", "store")
AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Commit:
    """A checkpoint: of which state, by whom."""

    epoch: int
    step: int
    state: int


@dataclass(slots=True)
class Worker:
    """What computes."""

    epoch: int = next_epoch.NO_STATE
    step: int = next_epoch.NO_STATE
    state: int = 0
    is_in: bool = False
    wants_pause: bool = False


@dataclass(slots=True)
class Node:
    """A machine."""

    name: str
    boot: int = 0
    is_up: bool = False
    is_frozen: bool = False
    thawed_s: float = 0.0
    member: m.Member | None = None
    worker: Worker = field(default_factory=Worker)
    backlog: list[Callable[[], None]] = field(default_factory=list)  # while frozen


class Simulation:
    """All of it, from one seed."""

    def __init__(self, seed: int, *, nodes: int, min_nodes: int) -> None:
        self.random = Random(seed)
        self.rules = next_epoch.Rules(
            nodes=nodes, min_nodes=min_nodes, join_s=10_000, pause_s_max=10_000, watchdog_s=3
        )
        self.now_s = 0.0
        self._order = count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self.nodes = {f"t-{index}": Node(f"t-{index}") for index in range(nodes)}
        self.log: list[EpochRecord] = []
        self.begun_s: list[float] = []
        self.sides: dict[str, int] = {}  # of a partition
        self.store_s = 0.05
        self.commits: list[Commit] = []
        self.applied: dict[tuple[int, int], int] = {}  # (epoch, step) -> state
        self.history: list[str] = []
        self.is_over = False

    # What a test does to it.

    def start(self, name: str) -> None:
        """Boot a node."""
        node = self.nodes[name]
        node.boot += 1
        node.is_up, node.is_frozen = True, False
        node.worker = Worker()
        node.backlog.clear()
        node.member = m.Member(
            node=name,
            boot_id=f"{name}/{node.boot}",
            address=f"10.0.0.{name[2:]}",
            rules=self.rules,
            since_s=self.now_s,
        )
        self._happen(node, m.Read(tuple(self.log)))
        self._start_worker(node)
        boot = node.boot
        self._each(TICK_S, node, boot, lambda: self._happen(node, m.Tick()))
        self._each(HEARTBEAT_S, node, boot, lambda: self._tell(node))
        self._each(READ_S, node, boot, lambda: self._read(node))

    def kill(self, name: str) -> None:
        """The machine fails: peers see its connections close."""
        node = self.nodes[name]
        node.is_up = False
        node.boot += 1
        assert node.member is not None
        lost = m.Lost(name, node.member.boot_id)
        for peer in self.nodes.values():
            if peer is not node and self._hears(peer.name, name):
                self._soon(peer, lost)
        self._break_group(node)

    def kill_worker(self, name: str) -> None:
        """Its worker alone."""
        node = self.nodes[name]
        if not node.is_up or node.is_frozen:
            return
        node.worker = Worker()
        self._happen(node, m.Died())
        self._break_group(node)
        self._start_worker(node)

    def notice(self, name: str) -> None:
        """Its cloud will take it: it leaves when it can."""
        node = self.nodes[name]
        self._at(0.0, node, lambda: self._happen(node, m.Noticed()))

    def freeze(self, name: str) -> None:
        """Nothing of it runs, its connections stay."""
        self.nodes[name].is_frozen = True

    def thaw(self, name: str) -> None:
        """It goes on as if nothing had been."""
        node = self.nodes[name]
        node.is_frozen = False
        node.thawed_s = self.now_s
        backlog, node.backlog = node.backlog, []
        for call in backlog:
            call()

    def split(self, sides: dict[str, int]) -> None:
        """Nodes of different sides don't hear each other; all reach the store."""
        self.sides = sides

    def run(self, until_s: float) -> None:
        """Let time pass."""
        while self._queue and self._queue[0][0] <= until_s:
            self.now_s, _, call = heapq.heappop(self._queue)
            call()
        self.now_s = until_s

    # What holds at any time.

    def check(self) -> None:
        """Invariants over all that has happened."""
        for earlier, later in pairwise(self.log):
            assert later.resume_step >= 0
            assert set(later.holders) <= set(earlier.members), "state comes from the last epoch"
        for commit in self.counting():
            assert self.lineage().get(commit.step, commit.state) == commit.state, (
                f"commit {commit} is of another history"
            )

    def counting(self) -> list[Commit]:
        """Commits that count, by the rule that readers use."""
        steps = [record.resume_step for record in self.log]
        return [c for c in self.commits if all(c.step <= step for step in steps[c.epoch + 1 :])]

    def lineage(self) -> dict[int, int]:
        """Step -> state along the history that the log tells."""
        states: dict[int, int] = {0: 0}
        for number in range(len(self.log)):
            limit = min((r.resume_step for r in self.log[number + 1 :]), default=10**9)
            for (epoch, step), state in self.applied.items():
                if epoch == number and step <= limit:
                    states[step] = state
        return states

    # How it works.

    def _at(self, after_s: float, node: Node, call: Callable[[], None]) -> None:
        boot = node.boot

        def guarded() -> None:
            if node.boot != boot or not node.is_up:
                return
            if node.is_frozen:
                node.backlog.append(guarded)
            else:
                call()

        heapq.heappush(self._queue, (self.now_s + after_s, next(self._order), guarded))

    def _each(self, every_s: float, node: Node, boot: int, call: Callable[[], None]) -> None:
        def again() -> None:
            if node.boot == boot:
                call()
                self._at(every_s, node, again)

        self._at(every_s * self.random.random(), node, again)

    def _soon(self, node: Node, happening: m.Happening) -> None:
        self._at(self._ping_s(), node, lambda: self._happen(node, happening))

    def _leave_soon(self, node: Node, number: int) -> None:
        self._at(self._ping_s(), node, lambda: self._leave(node, number))

    def _ping_s(self) -> float:
        return self.random.uniform(0.001, 0.02)

    def _hears(self, one: str, other: str) -> bool:
        return self.sides.get(one, 0) == self.sides.get(other, 0)

    def _start_worker(self, node: Node) -> None:
        self._at(self.random.uniform(0.5, 3), node, lambda: self._happen(node, m.Ready()))

    def _tell(self, node: Node) -> None:
        assert node.member is not None
        status = node.member.status
        for peer in self.nodes.values():
            if peer is not node and peer.is_up and self._hears(peer.name, node.name):
                self._soon(peer, m.Heard(status))

    def _read(self, node: Node) -> None:
        log = tuple(self.log)
        at_work = frozenset(
            peer.name
            for peer in self.nodes.values()
            if peer.is_up and not peer.is_frozen and self._is_at_work(peer)
        )

        asked_s = self.now_s

        def arrive() -> None:
            self._happen(node, m.Read(log))
            self._happen(node, m.AtWork(at_work, asked_s))

        self._at(self.store_s, node, arrive)

    def _is_at_work(self, node: Node) -> bool:
        return node.worker.is_in and node.worker.epoch == len(self.log) - 1

    def _happen(self, node: Node, happening: m.Happening) -> None:
        assert node.member is not None
        for action in node.member.handle(happening, self.now_s):
            self._act(node, action)
        if node.is_up and node.member.state == next_epoch.LEAVING:
            self.kill(node.name)
            heapq.heappush(
                self._queue,
                (self.now_s + REPLACE_S, next(self._order), lambda: self._replace(node.name)),
            )

    def _replace(self, name: str) -> None:
        if not self.nodes[name].is_up:
            self.start(name)

    def _act(self, node: Node, action: m.Action) -> None:
        match action:
            case m.Tell():
                self._tell(node)
            case next_epoch.Propose():
                self._propose(node, action)
            case m.TakeUp():
                self._take_up(node, action)
            case m.Abort(epoch=epoch):
                if node.worker.is_in and node.worker.epoch == epoch:
                    self._at(0.01, node, lambda: self._leave(node, epoch))
            case next_epoch.Keep():
                worker = node.worker
                self._commit(node, Commit(worker.epoch, worker.step, worker.state))
            case m.Pause():
                node.worker.wants_pause = True
            case next_epoch.End():
                self.is_over = True
                self.history.append(f"{self.now_s:.2f} {action}")
            case _:
                pass

    def _propose(self, node: Node, action: next_epoch.Propose) -> None:
        took_s = self.store_s * self.random.uniform(0.5, 2)
        step = action.resume_step
        if not action.holders:
            step = max((c.step for c in self.counting()), default=0)
        record = EpochRecord(
            kind="epoch",
            members=action.members,
            holders=action.holders,
            resume_step=step,
            why=action.why,
            writer=node.name,
            at=AT,
        )

        def arrive() -> None:
            """At the store, which is there even when the proposer is not any more."""
            if len(self.log) == action.number:
                self._check_not_stolen(record)
                self.log.append(record)
                self.begun_s.append(self.now_s)
                self.history.append(f"{self.now_s:.2f} {len(self.log) - 1} {record.members}")
                for peer in self.nodes.values():
                    if peer is not node and peer.is_up and self._hears(peer.name, node.name):
                        self._soon(peer, m.Read(tuple(self.log)))
            self._at(0.0, node, lambda: self._read_now(node))

        heapq.heappush(self._queue, (self.now_s + took_s, next(self._order), arrive))

    def _check_not_stolen(self, record: EpochRecord) -> None:
        """Who is cut off from a group that is well leaves it alone."""
        newest = len(self.log) - 1
        if newest >= 0 and not set(self.log[newest].members) & set(record.members):
            since_s = max(self.begun_s[newest], *(n.thawed_s for n in self._group(newest)))
            is_well = self.now_s - since_s > KNOWN_S and self._can_reduce(newest)
            assert not is_well, f"epoch {newest} was well, {record.members} ended it"

    def _read_now(self, node: Node) -> None:
        self._happen(node, m.Read(tuple(self.log)))

    def _take_up(self, node: Node, action: m.TakeUp) -> None:
        worker, record = node.worker, action.record
        is_holder = node.name in record.holders
        if is_holder:
            assert worker.step == record.resume_step, "a holder holds what it said"
        worker.is_in, worker.epoch, worker.wants_pause = True, action.number, False
        if not is_holder:
            worker.step = next_epoch.NO_STATE
        first = self.nodes[record.members[0]]
        if node is first:
            self._at(STEP_S, first, lambda: self._step(action.number))

    def _group(self, number: int) -> list[Node]:
        return [self.nodes[name] for name in self.log[number].members]

    def _can_reduce(self, number: int) -> bool:
        group = self._group(number)
        return (
            all(
                n.is_up and not n.is_frozen and n.worker.is_in and n.worker.epoch == number
                for n in group
            )
            and len({self.sides.get(n.name, 0) for n in group}) == 1
        )

    def _step(self, number: int) -> None:
        """All members reduce, then each applies: between the two, any of them may be struck."""
        group = self._group(number)
        first = group[0]
        if not first.worker.is_in or first.worker.epoch != number:
            return
        if not self._can_reduce(number):
            self._at(STEP_S, first, lambda: self._step(number))  # it hangs in the collective
            return
        record = self.log[number]
        for node in group:  # state for those that have none: from a holder, or a checkpoint
            if node.worker.step == next_epoch.NO_STATE:
                self._fetch(node, number, record)
        states = {(node.worker.step, node.worker.state) for node in group}
        assert len(states) == 1, f"members of epoch {number} differ: {states}"
        step, state = states.pop()
        after = hash((state, step + 1, number))
        struck = len(group) > 1 and self.random.random() < 0.02
        applying = group[: self.random.randrange(1, len(group))] if struck else group
        paused = any(node.worker.wants_pause for node in group)
        for node in applying:
            node.worker.step, node.worker.state = step + 1, after
        self.applied[number, step + 1] = after
        if (step + 1) % 5 == 0:
            self._commit(first, Commit(number, step + 1, after))
        if struck or paused:
            for node in group:
                self._leave_soon(node, number)
        else:
            self._at(STEP_S, first, lambda: self._step(number))

    def _fetch(self, node: Node, number: int, record: EpochRecord) -> None:
        if record.holders:
            source = self.nodes[record.holders[0]].worker
            assert source.step == record.resume_step
            node.worker.step, node.worker.state = source.step, source.state
        elif record.resume_step == 0:
            node.worker.step, node.worker.state = 0, 0
        else:
            earlier = [c for c in self.counting() if c.epoch < number]
            found = [c for c in earlier if c.step == record.resume_step]
            assert found, f"epoch {number} resumes from a commit that does not count"
            node.worker.step, node.worker.state = found[-1].step, found[-1].state

    def _commit(self, node: Node, commit: Commit) -> None:
        """It lands later, even from a node that was put out meanwhile."""
        self._at(self.random.uniform(0.1, 6), node, lambda: self.commits.append(commit))

    def _leave(self, node: Node, number: int) -> None:
        worker = node.worker
        if worker.is_in and worker.epoch == number:
            worker.is_in = False
            self._happen(node, m.Left(number, worker.step))

    def _break_group(self, node: Node) -> None:
        """The group of a dead worker: the others' collectives fail at once."""
        for peer in self.nodes.values():
            number = peer.worker.epoch
            if peer is not node and peer.worker.is_in and node.name in self.log[number].members:
                self._leave_soon(peer, number)


def shake(seed: int, *, nodes: int, min_nodes: int, blows: int) -> Simulation:
    """Blows of all kinds on a pool, then peace; the simulation as it ended."""
    sim = Simulation(seed, nodes=nodes, min_nodes=min_nodes)
    draw = sim.random
    for name in sim.nodes:
        sim.start(name)
    now = 0.0
    for _ in range(blows):
        now += draw.expovariate(1 / 4)
        sim.run(now)
        name = draw.choice(list(sim.nodes))
        node = sim.nodes[name]
        match draw.choice(
            ["kill", "notice", "start", "worker", "freeze", "thaw", "split", "heal", "store"]
        ):
            case "kill" if node.is_up:
                sim.kill(name)
            case "notice" if node.is_up:
                sim.notice(name)
            case "start" if not node.is_up:
                sim.start(name)
            case "worker":
                sim.kill_worker(name)
            case "freeze" if node.is_up:
                sim.freeze(name)
            case "thaw" if node.is_frozen:
                sim.thaw(name)
            case "split":
                sim.split({name: draw.randrange(2) for name in sim.nodes})
            case "heal":
                sim.split({})
            case "store":
                sim.store_s = draw.choice([0.01, 0.05, 0.5, 3.0])
            case _:
                continue
        sim.check()
    sim.split({})
    sim.store_s = 0.05
    for name, node in sim.nodes.items():
        if node.is_frozen:
            sim.thaw(name)
        if not node.is_up:
            sim.start(name)
    sim.run(now + 60)
    sim.check()
    return sim
