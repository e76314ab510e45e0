"""One node in one run: keeps its worker in the run's newest epoch until the run has ended.

Thin: `coordination.membership` decides. Here its actions are carried out, and what happens (worker,
links, store) is brought to it by one inbox, in order. No torch in this process: it
must answer while the worker computes.
"""

import logging
import math
import queue
from collections.abc import Callable
from contextlib import suppress

from runtime.clouds import Notice
from runtime.coordination import membership
from runtime.coordination.links import Decided, Links
from runtime.coordination.log import EpochRecord, Outcome, RunEntry
from runtime.coordination.membership import Happening, Heard, Lost, Member
from runtime.coordination.next_epoch import (
    FINISHING,
    JOINING,
    LEAVING,
    PREPARING,
    TRAINING,
    End,
    Keep,
    Propose,
    Rules,
    Wait,
)
from runtime.coordination.phases import Stopwatch
from runtime.coordination.rendezvous import Rendezvous
from runtime.errors import Unavailable
from runtime.limits import CHILD_STOP_S, HEARTBEAT_S, LEAVE_S, POLL_LOG_S, RESTART_S, RESTART_S_MAX
from runtime.node_spec import TrainSpec
from runtime.objects import open_store
from runtime.role import Node
from runtime.train import protocol
from runtime.train.child import Child, Died, Said
from runtime.train.desk import Away, Desk, Hopeless, Proposed, Seen
from runtime.train.ending import Ending

CRASHES_MAX = 3  # of the worker without a step applied in between; then the fault is not chance
SAVE_S_MIN = 1.0  # a checkpoint that can't be written in so long is not begun for nothing

log = logging.getLogger("agent")


class Session:
    """The agent's side of one run. For one thread."""

    def __init__(
        self,
        node: Node,
        train: TrainSpec,
        entry: RunEntry,
        child: Child,
        inbox: "queue.SimpleQueue[object]",
        clock: Callable[[], float],
    ) -> None:
        self._node = node
        self._train = train
        self._entry = entry
        self._child = child
        self._inbox = inbox
        self._clock = clock
        self._rendezvous = self._open_rendezvous()
        self._key = self._rendezvous.key()
        self._ending = Ending(node.spec, node.control, self._rendezvous, node.leaving)
        self._desk = Desk(
            self._open_rendezvous, open_store(node.spec.stores.checkpoints), inbox, clock
        )
        self._member = Member(
            node=node.spec.node,
            boot_id=node.heart.presence.boot_id,
            address=node.spec.address,
            rules=Rules(
                nodes=train.nodes,
                min_nodes=train.min_nodes,
                join_s=train.join_s,
                pause_s_max=train.pause_s_max,
                watchdog_s=train.watchdog_s,
            ),
            since_s=clock(),
        )
        self._links = Links(self._member.status, self._key, train.watchdog_s, inbox.put)
        self._looked_s = float("-inf")
        self._crashes = 0  # without a step in between
        self._restart_s: float | None = None  # when a new worker is due
        self._unanswered = 0  # questions to the worker
        self._kept_s = float("-inf")
        self._stopwatch = Stopwatch()
        self._leave_s = math.inf  # when it must be gone, after a notice
        self._is_over = False

    def work(self) -> None:
        """Until the run has ended or the node leaves; the worker is stopped then."""
        try:
            self._handle(membership.Read(tuple(self._rendezvous.epochs())))
            self._begin()
            while not self._is_over and not self._has_left:
                with suppress(queue.Empty):
                    self._take(self._inbox.get(timeout=HEARTBEAT_S))
                self._keep_time()
        finally:
            self._links.close()
            self._node.heart.say(link="", straggler="")
            self._child.stop()

    @property
    def _has_left(self) -> bool:
        """Told to, or out of the epoch after a notice, or out of time."""
        is_out = self._member.state == LEAVING
        return is_out or self._clock() >= self._leave_s or self._node.leaving.is_set()

    @property
    def _resume_steps(self) -> tuple[int, ...]:
        return tuple(epoch.resume_step for epoch in self._member.epochs)

    def _open_rendezvous(self) -> Rendezvous:
        spec = self._node.spec
        entry = self._entry
        return Rendezvous(self._node.control, spec.pool, entry.run, spec.node, entry.number)

    def _begin(self) -> None:
        """Tell a fresh worker what the run is."""
        spec = self._node.spec
        work = protocol.Work(
            run=self._entry.run,
            train=self._train,
            stores=spec.stores,
            node=spec.node,
            address=spec.address,
            folder=str(self._node.folder),
            key=self._key.hex(),
        )
        self._child.send(work)
        self._node.heart.say(
            state=PREPARING,
            why="",
            run=self._entry.run,
            steps=self._train.steps,
            link=f"{spec.address}:{self._links.port}",
        )

    # What happens.

    def _take(self, news: object) -> None:
        match news:
            case Said(pid=pid, event=event):
                if pid == self._child.pid:
                    self._obey(event)
            case Heard() | Lost():
                self._handle(news)
            case Notice(left_s=left_s, why=why):
                log.warning("leaves: %s", why)
                self._leave_s = self._clock() + min(left_s, LEAVE_S)
                self._handle(membership.Noticed())
                self._node.heart.say(why=why)
            case Decided(number=number, record=record):
                self._learn(number, record)
            case Seen():
                self._see(news)
            case Proposed(number=number, record=EpochRecord() as record):
                self._links.decided(number, record)
                self._learn(number, record)
            case Proposed():
                self._look()  # at who won
            case Hopeless(end=end):
                self._end(end.outcome, end.why)
            case Away(why=why):
                log.warning("%s", why)
                if self._member.state == JOINING:
                    self._node.heart.say(why=why)
            case _:
                raise AssertionError(f"nobody sends {news!r}")

    def _obey(self, event: protocol.Event | Died) -> None:
        match event:
            case protocol.Ready():
                self._handle(membership.Ready())
            case protocol.Pong():
                self._unanswered = 0
            case protocol.Formed(fetched=False):
                log.info("epoch %d: the group stands", event.epoch)
                self._stopwatch.formed_s = self._clock()
            case protocol.Formed():
                log.info("epoch %d: the state is there", event.epoch)
                self._stopwatch.fetched_s = self._clock()
            case protocol.Stepped():
                self._crashes = 0
                self._time_first_step(event.epoch)
                self._node.heart.say(
                    step=event.step, loss=event.loss, tokens_per_s=event.tokens_per_s
                )
            case protocol.Slow(rank=rank, ratio=ratio):
                self._tell_straggler(rank, ratio)
            case protocol.Noted():
                log.warning("worker: %s", event.why or "mended")
                self._node.heart.say(why=event.why)
            case protocol.Broken() | protocol.Paused():
                self._stopwatch.sign(self._clock())
                self._handle(membership.Left(event.epoch, event.step))
            case protocol.Done():
                self._handle(membership.Finished(event.epoch, event.step))
                if event.folder is not None:
                    self._ending.published(self._entry, event)
                    self._is_over = True
            case protocol.Failed():
                self._end("failed", event.why)
            case Died():
                self._bury(event)
            case _:
                pass

    def _tell_straggler(self, rank: int | None, ratio: float) -> None:
        members = self._member.epochs[-1].members
        told = "" if rank is None else f"{members[rank]} computes {ratio:.1f} times as long"
        log.warning("%s", told or "no member is slow any more")
        self._node.heart.say(straggler=told)

    def _learn(self, number: int, record: EpochRecord) -> None:
        known = self._member.epochs
        if number == len(known):
            self._handle(membership.Read((*known, record)))
        elif number > len(known):
            self._look()

    def _see(self, seen: Seen) -> None:
        if not seen.is_open:
            self._is_over = True
            return
        for peer in seen.peers or ():
            if peer.node != self._node.spec.node and peer.link:
                host, _, port = peer.link.rpartition(":")
                self._links.dial(peer.node, peer.boot_id, host, int(port))
        self._handle(membership.Read(seen.epochs))
        if seen.peers is not None:
            nodes = frozenset(
                peer.node
                for peer in seen.peers
                if peer.state in (TRAINING, FINISHING) and peer.epoch == len(seen.epochs) - 1
            )
            self._handle(membership.AtWork(nodes, seen.asked_s))

    def _keep_time(self) -> None:
        """What is due by the clock alone; not with every piece of news, which may bring another."""
        now_s = self._clock()
        if now_s - self._kept_s < HEARTBEAT_S:
            return
        self._kept_s = now_s
        if self._restart_s is not None and now_s >= self._restart_s:
            self._restart_s = None
            self._child = Child(self._inbox, self._node.stderr)
            self._begin()
        if now_s - self._looked_s >= POLL_LOG_S:
            self._look()
        self._watch()
        self._handle(membership.Tick())

    def _watch(self) -> None:
        """A worker that does not answer is frozen: killed, its peers notice at once.

        Questions are counted, not seconds: while this process was frozen itself, it asked nothing.
        """
        if self._member.state != TRAINING:
            self._unanswered = 0  # it prepares or exports, which may hold its interpreter for long
        elif self._unanswered * HEARTBEAT_S > self._train.watchdog_s:
            log.error("the worker has not answered %d times: killed", self._unanswered)
            self._child.kill()
            self._unanswered = 0
        else:
            self._unanswered += 1
            self._child.send(protocol.Ping())

    def _look(self) -> None:
        self._looked_s = self._clock()
        self._desk.look(at_peers=self._member.state in (PREPARING, JOINING))

    # What follows.

    def _handle(self, happening: Happening) -> None:
        for action in self._member.handle(happening, self._clock()):
            self._act(action)

    def _act(self, action: membership.Action) -> None:
        match action:
            case membership.Tell(status=status):
                self._links.tell(status)
                self._node.heart.say(state=status.state)
            case membership.TakeUp():
                self._take_up(action)
            case membership.Abort(epoch=epoch, why=why, silent_s=silent_s):
                log.warning("epoch %d is over: %s", epoch, why)
                self._stopwatch.sign(self._clock(), silent_s)
                self._child.send(protocol.Abort(number=epoch))
            case membership.Pause(newcomers=newcomers, is_saving=is_saving):
                log.info("pause for %s", ", ".join(newcomers) or "leaving")
                save_s = max(SAVE_S_MIN, self._leave_s - self._clock() - CHILD_STOP_S)
                self._child.send(protocol.Pause(save_s=save_s if is_saving else None))
            case Propose():
                self._desk.propose(action)
            case End(outcome=outcome, why=why):
                self._end(outcome, why)
            case Keep(why=why):
                self._child.send(protocol.Keep(resume_steps=self._resume_steps))
                self._node.heart.say(why=why)
            case Wait(why=why):
                self._node.heart.say(why=why)

    def _take_up(self, action: membership.TakeUp) -> None:
        number, record = action.number, action.record
        order = protocol.Epoch(
            number=number,
            rank=record.members.index(self._node.spec.node),
            world_size=len(record.members),
            rendezvous=record.rendezvous,
            resume_steps=self._resume_steps,
            holders=tuple(record.members.index(node) for node in record.holders),
        )
        self._child.send(order)
        log.info("epoch %d: rank %d of %d, from step %d", number, order.rank, order.world_size,
                 record.resume_step)  # fmt: skip
        self._unanswered = 0
        self._stopwatch.take_up(self._clock())
        self._node.heart.say(epoch=number, step=record.resume_step, why="", straggler="")

    def _time_first_step(self, epoch: int) -> None:
        phases = self._stopwatch.first_step(self._clock())
        if phases is not None and self._node.spec.node == self._member.epochs[epoch].members[0]:
            log.info("epoch %d: %s", epoch, phases)
            self._desk.note(epoch, phases)

    def _bury(self, died: Died) -> None:
        self._handle(membership.Died())
        self._crashes += 1
        told = died.why or f"status {died.status}"
        why = f"the worker of {self._node.spec.node} ended: {told}"
        log.error("%s", why)
        if self._crashes < CRASHES_MAX:
            pause_s = min(RESTART_S * 2 ** (self._crashes - 1), RESTART_S_MAX)
            self._restart_s = self._clock() + pause_s
            return
        peers = self._member.peers.values()
        if any(peer.state in (TRAINING, FINISHING) for peer in peers):
            raise Unavailable(f"{why}, {self._crashes} times")  # the others go on without this node
        self._end("failed", f"{why}, {self._crashes} times")

    def _end(self, outcome: Outcome, why: str) -> None:
        self._ending.end(outcome, why)
        self._is_over = True
