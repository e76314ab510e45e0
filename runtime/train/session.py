"""One node in one run: keeps its worker in the run's newest epoch until the run has ended.

No torch in this process: it must answer while the worker computes.
"""

import logging
from collections.abc import Callable

from runtime import checkpoint
from runtime.coordination.log import EpochRecord, Outcome, RunEntry
from runtime.coordination.membership import (
    FINISHING,
    JOINING,
    TRAINING,
    End,
    Propose,
    Rules,
    View,
    Wait,
    decide,
    is_stuck,
    newcomers,
)
from runtime.coordination.rendezvous import Rendezvous
from runtime.errors import Unavailable
from runtime.limits import POLL_LOG_S, REJOIN_S
from runtime.node_spec import TrainSpec
from runtime.objects import open_store
from runtime.role import Node
from runtime.train.child import Child, Died
from runtime.train.ending import Ending
from runtime.train.protocol import (
    Broken,
    Done,
    Epoch,
    Event,
    Failed,
    Noted,
    Pause,
    Paused,
    Ready,
    Stepped,
    Work,
)

PREPARING = "preparing"  # the worker starts, or prepares the data
NEWCOMERS_S = 3.0  # the first member looks for nodes that want to join this often
CRASHES_MAX = 3  # of the worker in one run; then the fault is not chance

log = logging.getLogger("agent")


class Session:
    """The agent's side of one run. For one thread."""

    def __init__(
        self,
        node: Node,
        train: TrainSpec,
        entry: RunEntry,
        child: Child,
        clock: Callable[[], float],
    ) -> None:
        self._node = node
        self._train = train
        self._entry = entry
        self._child = child
        self._clock = clock
        self._rules = Rules(
            nodes=train.nodes,
            min_nodes=train.min_nodes,
            join_s=train.join_s,
            pause_s_max=train.pause_s_max,
        )
        self._rendezvous = Rendezvous(node.control, node.spec.pool, entry.run, node.spec.node)
        self._ending = Ending(node.spec, node.control, self._rendezvous, node.leaving)
        self._checkpoints = open_store(node.spec.stores.checkpoints)
        self._phase = PREPARING
        self._phase_s = clock()  # when it began
        self._seen = 0  # epochs that are past, or that this worker has taken up
        self._members: tuple[str, ...] = ()  # of the epoch that the worker is in
        self._looked_s = float("-inf")
        self._sought_s = clock()
        self._crashes = 0
        self._is_over = False

    def work(self) -> None:
        """Until the run has ended or the node leaves; the worker is stopped then."""
        try:
            self._begin()
            while not self._is_over and not self._node.leaving.is_set():
                self._obey(self._child.next(POLL_LOG_S))
                if self._clock() - self._looked_s >= POLL_LOG_S:
                    self._looked_s = self._clock()
                    self._try_to_look()
        finally:
            self._child.stop()

    def _begin(self) -> None:
        """Tell a fresh worker what the run is."""
        spec = self._node.spec
        self._enter(PREPARING)
        work = Work(
            run=self._entry.run,
            train=self._train,
            stores=spec.stores,
            node=spec.node,
            address=spec.address,
            folder=str(self._node.folder),
        )
        self._child.send(work)

    def _obey(self, event: Event | Died | None) -> None:
        match event:
            case Ready():
                self._seen = len(self._rendezvous.epochs())
                self._enter(JOINING)
            case Stepped():
                self._node.heart.say(
                    step=event.step, loss=event.loss, tokens_per_s=event.tokens_per_s
                )
            case Noted():
                log.warning("worker: %s", event.why or "mended")
                self._node.heart.say(why=event.why)
            case Broken() | Paused():
                self._enter(JOINING, f"step {event.step}")
            case Done(folder=str()):
                self._enter(FINISHING)
                self._ending.published(self._entry, event)
                self._is_over = True
            case Done():
                self._enter(FINISHING)
            case Failed():
                self._end("failed", event.why)
            case Died():
                self._replace_dead(event)
            case _:
                pass

    def _try_to_look(self) -> None:
        try:
            self._look()
        except Unavailable as fault:
            log.warning("%s", fault)  # the worker goes on; the next look comes soon
            if self._phase == JOINING:
                self._node.heart.say(why=str(fault))

    def _look(self) -> None:
        """See what others have decided, and decide what is due."""
        if self._rendezvous.open_entry() is None:
            self._is_over = True
            return
        epochs = self._rendezvous.epochs()
        match self._phase:
            case "joining" if len(epochs) > self._seen:
                self._seen = len(epochs)
                if self._node.spec.node in epochs[-1].members:
                    self._take_up(epochs)
            case "joining":
                self._decide(epochs)
            case "training" if len(epochs) > self._seen:
                log.warning("epoch %d was decided without this node", len(epochs) - 1)
                self._restart()
            case "training" if self._is_first():
                self._seek_newcomers()
            case "finishing" if self._clock() - self._phase_s >= REJOIN_S:
                first = [p for p in self._rendezvous.peers() if p.node == self._members[0]]
                if not first or first[0].state != FINISHING:
                    self._enter(JOINING, "the first member was lost")
            case _:
                pass

    def _decide(self, epochs: list[EpochRecord]) -> None:
        view = View(
            me=self._node.spec.node,
            epochs=epochs,
            peers=self._rendezvous.peers(),
            waited_s=self._clock() - self._phase_s,
        )
        match decide(view, self._rules):
            case Wait(why=why):
                self._node.heart.say(why=why)
            case End(outcome=outcome, why=why):
                self._end(outcome, why)
            case Propose() as proposal:
                self._propose(proposal, epochs)

    def _propose(self, proposal: Propose, epochs: list[EpochRecord]) -> None:
        resume_steps = [epoch.resume_step for epoch in epochs]
        commit = checkpoint.newest_sound(self._checkpoints, self._entry.run, resume_steps)
        step = commit.step if commit else 0
        if is_stuck(epochs, step):
            self._end("failed", f"{len(epochs)} epochs, and the last ones all began at step {step}")
        else:
            self._rendezvous.propose(proposal, step)
            self._looked_s = float("-inf")  # look at once who won

    def _take_up(self, epochs: list[EpochRecord]) -> None:
        number, record = len(epochs) - 1, epochs[-1]
        self._members = record.members
        order = Epoch(
            number=number,
            rank=record.members.index(self._node.spec.node),
            world_size=len(record.members),
            rendezvous=record.rendezvous,
            resume_steps=tuple(epoch.resume_step for epoch in epochs),
        )
        log.info("epoch %d: rank %d of %d, from step %d", number, order.rank, order.world_size,
                 record.resume_step)  # fmt: skip
        self._child.send(order)
        self._sought_s = self._clock()
        self._node.heart.say(epoch=number, step=record.resume_step)
        self._enter(TRAINING)

    def _is_first(self) -> bool:
        return self._node.spec.node == self._members[0]

    def _seek_newcomers(self) -> None:
        has_room = len(self._members) < self._rules.nodes
        if not has_room or self._clock() - self._sought_s < NEWCOMERS_S:
            return
        self._sought_s = self._clock()
        found = newcomers(self._rendezvous.peers(), self._members, self._rules)
        if found:
            log.info("pause for %s", ", ".join(found))
            self._child.send(Pause())

    def _replace_dead(self, died: Died) -> None:
        self._crashes += 1
        why = f"the worker of {self._node.spec.node} ended with status {died.status}"
        log.error("%s", why)
        if self._crashes < CRASHES_MAX:
            self._restart()
            return
        others = [p for p in self._rendezvous.peers() if p.node != self._node.spec.node]
        if any(peer.state in (TRAINING, FINISHING) for peer in others):
            raise Unavailable(f"{why}, {self._crashes} times")  # the others go on without this node
        self._end("failed", f"{why}, {self._crashes} times")

    def _restart(self) -> None:
        self._child.stop()
        self._child = Child()
        self._begin()

    def _end(self, outcome: Outcome, why: str) -> None:
        self._ending.end(outcome, why)
        self._is_over = True

    def _enter(self, phase: str, why: str = "") -> None:
        self._phase = phase
        self._phase_s = self._clock()
        self._node.heart.say(state=phase, why=why, run=self._entry.run, steps=self._train.steps)
