"""Watch a run to its end: a picture that moves on a terminal, plain lines anywhere else.

Reads the control store once per LOOK_S. That is for eyes: nothing waits on it.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from infra.cli.claims import end_run
from infra.cli.clock import Clock
from infra.cli.nodes import FALLEN, LEFT, SeenNode, look
from infra.cli.runs import WRITER, find_run
from infra.cli.screen import BAD, GOOD, Screen, grid
from infra.clouds.view import StackView
from runtime.coordination.log import (
    LAST_WORDS,
    EpochRecord,
    Outcome,
    PoolLog,
    RunEntry,
    epoch_log,
)
from runtime.errors import Refused

LOOK_S = 1.0
LINE_S = 5.0  # between two lines of progress where nothing moves
DEAD_S = 60.0  # an open run without a living member for this long is given up
REFUSED_S = 10.0  # and sooner where all its nodes refuse what they are told
BOOT_FAULT = "boot: "  # so begins the last word of a machine that did not become a node
PACE_S = 30.0  # the time left is told by the pace over this long
BAR_COLUMNS = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeSight:
    """A node of the training pool that lives, or that the newest epoch misses."""

    node: str
    state: str
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSight:
    """A run at one moment."""

    entry: RunEntry
    epochs: tuple[EpochRecord, ...]
    nodes: tuple[NodeSight, ...]
    step: int
    steps: int
    loss: float | None
    tokens_per_s: float | None
    is_live: bool  # machines that may still be booting left out
    at: datetime  # by the store's clock
    fallen: NodeSight | None = None  # could not boot, where no other will

    @property
    def refusal(self) -> NodeSight | None:
        """A node that can't do what it is told, where no other node goes on."""
        refused = [node for node in self.nodes if node.state == "refused"]
        return refused[0] if refused and len(refused) == len(self.nodes) else self.fallen


class RunWatch:
    """Looks at one run; reads only what is new of its logs."""

    def __init__(self, view: StackView, run: str) -> None:
        self._view = view
        self._run = run
        self.pool, _ = find_run(view, run)
        self._log = PoolLog(view.control, self.pool, WRITER)
        self._epochs = epoch_log(view.control, run)

    def look(self) -> RunSight:
        """The run as it stands now."""
        entry = next(e for e in self._log.state().runs if e.run == self._run)
        epochs = tuple(record for record in self._epochs.read() if record.kind == "epoch")
        seen = look(self._view)
        members = seen.members_of(self._run)
        furthest = max(members, key=lambda p: p.step, default=None)
        told = [p for p in members if p.loss is not None]
        own = [n for n in seen.nodes if n.presence.pool == self.pool]
        return RunSight(
            entry=entry,
            epochs=epochs,
            nodes=_nodes(own, epochs),
            step=furthest.step if furthest else 0,
            steps=furthest.steps if furthest else 0,
            loss=max(told, key=lambda p: p.step).loss if told else None,
            tokens_per_s=max((p.tokens_per_s or 0.0 for p in members), default=0.0) or None,
            is_live=seen.is_worked_on(entry),
            at=seen.now,
            fallen=self._fallen(own, entry),
        )

    def _fallen(self, own: list[SeenNode], entry: RunEntry) -> NodeSight | None:
        fallen = _last_fallen(own, entry)
        if fallen is None:
            return None
        held = self._view.held(self.pool)  # who falls leaves its pool, without a successor
        return fallen if held is None or held.wanted == 0 else None


@dataclass(slots=True)
class Pace:
    """How fast steps are made, over the last PACE_S."""

    marks: deque[tuple[float, int]] = field(default_factory=deque)  # (seconds, step)

    def note(self, now_s: float, step: int) -> None:
        """A step seen; one that goes back (a new epoch) starts anew."""
        if self.marks and step < self.marks[-1][1]:
            self.marks.clear()
        if step and (not self.marks or step > self.marks[-1][1]):
            self.marks.append((now_s, step))
        while len(self.marks) > 2 and now_s - self.marks[0][0] > PACE_S:
            self.marks.popleft()

    def left_s(self, steps: int) -> float | None:
        """Seconds to the last step at this pace; None while nobody can know."""
        if len(self.marks) < 2:
            return None
        (start_s, start), (end_s, end) = self.marks[0], self.marks[-1]
        return (steps - end) * (end_s - start_s) / (end - start)


def changes(before: RunSight | None, now: RunSight) -> Iterator[str]:
    """Lines about what is not progress: nodes that change state, a new epoch."""
    known = {node.node: (node.state, node.why) for node in before.nodes} if before else {}
    for node in now.nodes:
        if known.get(node.node) != (node.state, node.why):
            yield f"{node.node} {node.state}" + (f": {node.why}" if node.why else "")
    yield from new_epochs(before, now)


def new_epochs(before: RunSight | None, now: RunSight) -> Iterator[str]:
    """Lines about memberships that were not there before."""
    for number in range(len(before.epochs) if before else 0, len(now.epochs)):
        record = now.epochs[number]
        why = f" ({record.why})" if record.why else ""
        yield f"epoch {number}: {', '.join(record.members)} from step {record.resume_step}{why}"


def figures(now: RunSight) -> str:
    """How far it is, and how well and fast it goes."""
    parts = [f"step {now.step}/{now.steps}"]
    if now.loss is not None:
        parts.append(f"loss {now.loss:.3f}")
    if now.tokens_per_s is not None:
        parts.append(f"{now.tokens_per_s:,.0f} tokens/s")
    return "  ".join(parts)


def progress(now: RunSight, left_s: float | None) -> str:
    """The figures, the time left, and who is at it."""
    parts = [figures(now)]
    if left_s is not None:
        parts.append(f"ETA {clock_time(left_s)}")
    parts.append(f"{sum(node.state == 'training' for node in now.nodes)} nodes training")
    return "  ".join(parts)


def clock_time(seconds: float) -> str:
    """41 s, 3 min 20 s or 2 h 05 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def picture(now: RunSight, left_s: float | None) -> RenderableType:
    """The run drawn: a bar, the figures, the nodes."""
    head = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=max(1, now.steps), completed=now.step, width=BAR_COLUMNS)
    head.add_row(Text(f"run {now.entry.run}", style="bold"), bar)
    nodes = grid(("node", "state", ""), [(n.node, n.state, n.why) for n in now.nodes])
    return Group(head, Text(progress(now, left_s)), nodes)


def follow(
    view: StackView,
    run: str,
    screen: Screen,
    clock: Clock,
) -> RunSight:
    """Show a run until it has ended; returns its last sight.

    Raises Refused if it can't go on: no member lives for DEAD_S and what a machine may take to
    boot, or its nodes refuse their work.
    """
    watch, pace = RunWatch(view, run), Pace()
    patience = Patience(clock.seconds(), DEAD_S + view.boot_s)
    before: RunSight | None = None
    furthest: RunSight | None = None
    with _show(screen) as show:
        while True:
            now, now_s = watch.look(), clock.seconds()
            pace.note(now_s, now.step)
            furthest = now if now.loss is not None else furthest
            show(before, now, pace.left_s(now.steps), now_s)
            if now.entry.outcome is not None:
                break
            why = patience.give_up(now, now_s)
            if why is not None:
                outcome, why = _end(view, watch.pool, now, why)
                end_run(view, run, outcome, why, now.at)
                raise Refused(f"run {run} {outcome}: {why}; see {view.logs(watch.pool)}")
            before = now
            clock.wait(max(LOOK_S, view.look_s))
    if furthest is not None:
        screen.line(figures(furthest))
    why = f": {now.entry.why}" if now.entry.why else ""
    style = GOOD if now.entry.outcome == "published" else BAD
    screen.line(f"run {run} {now.entry.outcome}{why}", style)
    return now


def _end(view: StackView, pool: str, now: RunSight, why: str) -> tuple[Outcome, str]:
    """Outcome and reason of a run that is given up."""
    held = view.held(pool)
    if held is not None and held.why and not now.epochs:
        return "no-capacity", held.why
    return "failed", why


class Patience:
    """When to stop waiting for a run that nobody works on."""

    def __init__(self, now_s: float, dead_s: float) -> None:
        self._dead_s = dead_s
        self._last_good_s = now_s
        self._refusal: NodeSight | None = None

    def give_up(self, now: RunSight, now_s: float) -> str | None:
        """The reason to give up, or None to go on."""
        if now.nodes or now.fallen:
            self._refusal = now.refusal
        if now.is_live and self._refusal is None:
            self._last_good_s = now_s
        waited_s = now_s - self._last_good_s
        if self._refusal is not None and waited_s >= REFUSED_S:
            return f"node {self._refusal.node}: {self._refusal.why}"
        if waited_s >= self._dead_s:
            return f"no node of it was alive for {self._dead_s:.0f} s"
        return None


Show = Callable[[RunSight | None, RunSight, float | None, float], None]


@contextmanager
def _show(screen: Screen) -> Iterator[Show]:
    """What draws a sight on this screen: a picture, or lines at most every LINE_S."""
    if not screen.is_moving:
        told_s = float("-inf")

        def tell(
            before: RunSight | None, now: RunSight, left_s: float | None, now_s: float
        ) -> None:
            nonlocal told_s
            for line in changes(before, now):
                screen.line(line)
            is_first_loss = now.loss is not None and (before is None or before.loss is None)
            if is_first_loss or (now.step and now_s - told_s >= LINE_S):
                screen.line(progress(now, left_s))
                told_s = now_s

        yield tell
        return
    with Live(console=screen.console, transient=True, auto_refresh=False) as live:

        def draw(before: RunSight | None, now: RunSight, left_s: float | None, _: float) -> None:
            for line in new_epochs(before, now):
                screen.line(line)
            live.update(picture(now, left_s), refresh=True)

        yield draw


def _last_fallen(own: list[SeenNode], run: RunEntry) -> NodeSight | None:
    """The newest that could not boot since a run was claimed, unless others live."""
    if any(node.is_alive and node.presence.state not in LAST_WORDS for node in own):
        return None
    fallen = [
        node
        for node in own
        if node.presence.state in FALLEN
        and node.presence.why.startswith(BOOT_FAULT)
        and node.written > run.claimed_at
    ]
    if not fallen:
        return None
    said = max(fallen, key=lambda node: node.written).presence
    return NodeSight(node=said.node, state=said.state, why=said.why)


def _nodes(own: list[SeenNode], epochs: tuple[EpochRecord, ...]) -> tuple[NodeSight, ...]:
    """Nodes of the pool that live, and what became of the newest epoch's members."""
    members = epochs[-1].members if epochs else ()
    sights = {name: NodeSight(node=name, state="lost") for name in members}
    for node in own:
        said = node.presence
        has_left = said.state == LEFT
        if (node.is_alive and not has_left) or (has_left and said.node in members):
            sights[said.node] = NodeSight(node=said.node, state=said.state, why=said.why)
    return tuple(sights[name] for name in sorted(sights))
