"""Runs as their pool's log, their epochs, their members' presence and their metrics tell them."""

import json
from collections.abc import Iterator, Sequence

from pydantic import JsonValue

from infra.cli.nodes import Seen
from infra.cli.shapes import EpochShape, RunDetail, RunShape
from infra.clouds.view import StackView
from runtime.coordination.log import (
    EpochRecord,
    PoolLog,
    Presence,
    RunEntry,
    epoch_log,
)
from runtime.coordination.phases import Phases, read_phases
from runtime.errors import Missing, Refused
from runtime.objects import Store

WRITER = "cli"
RUNS_SHOWN = 20  # newest; each ended one costs a few reads
LOSS_NAMES = ("loss", "train_loss")

Metrics = dict[str, JsonValue]


def pool_runs(view: StackView) -> list[tuple[str, RunEntry]]:
    """All runs with their pools, newest first."""
    found = [
        (pool.pool, entry)
        for pool in view.pools
        if pool.role == "training"
        for entry in PoolLog(view.control, pool.pool, WRITER).state().runs
    ]
    return sorted(found, key=lambda pair: pair[1].claimed_at, reverse=True)


def run_shapes(view: StackView, seen: Seen) -> list[RunShape]:
    """The newest runs, newest first."""
    return [
        run_shape(view, pool, entry, seen, memberships(view.control, entry.run))
        for pool, entry in pool_runs(view)[:RUNS_SHOWN]
    ]


def run_shape(
    view: StackView, pool: str, entry: RunEntry, seen: Seen, epochs: Sequence[EpochRecord]
) -> RunShape:
    """One run: an open one by its members' presence, an ended one by its metrics."""
    members = seen.members_of(entry.run) if entry.outcome is None else []
    furthest = max(members, key=lambda p: p.step, default=None)
    last = last_metrics(view.checkpoints, entry.run, len(epochs)) if furthest is None else {}
    return RunShape(
        run=entry.run,
        state=_state(seen, entry, epochs),
        step=furthest.step if furthest else _integer(last, "step"),
        steps=(furthest.steps or None) if furthest else _integer(last, "steps"),
        loss=_loss(members) if furthest else training_loss(last),
        epoch=len(epochs) - 1 if epochs else None,
        members=epochs[-1].members if epochs else (),
        tokens_per_s=_tokens_per_s(members) if furthest else _number(last, "tokens_per_s"),
        straggler=next((p.straggler for p in members if p.straggler), ""),
        pool=pool,
        claimed_at=entry.claimed_at,
        why=entry.why,
    )


def run_detail(view: StackView, run: str, seen: Seen) -> RunDetail:
    """A run with its epochs and metrics; raises Refused if there is no such run."""
    pool, entry = find_run(view, run)
    records = memberships(view.control, run)
    shape = run_shape(view, pool, entry, seen, records)
    phases = [*read_phases(view.control, run, len(records))]
    lines = [_lines(view.checkpoints, run, number) for number in range(len(records))]
    epochs = tuple(_epochs(records, phases, lines))
    counting = tuple(history(lines, records))
    return RunDetail(
        **shape.model_dump(),
        epochs=epochs,
        steps_lost=sum(epoch.steps_lost for epoch in epochs),
        effective=_effective(lines, counting, phases),
        metrics=counting,
    )


def find_run(view: StackView, run: str) -> tuple[str, RunEntry]:
    """A run with its pool; raises Refused if there is no such run."""
    runs = pool_runs(view)
    for pool, entry in runs:
        if entry.run == run:
            return pool, entry
    known = ", ".join(entry.run for _, entry in runs[:5]) or "none yet"
    raise Refused(f"run {run!r}: found none of that name in stack {view.stack}; allowed {known}")


def memberships(control: Store, run: str) -> list[EpochRecord]:
    """The epochs of a run; the record that ends it is not one."""
    return [record for record in epoch_log(control, run).read() if record.kind == "epoch"]


def history(
    lines: Sequence[Sequence[Metrics]], records: Sequence[EpochRecord]
) -> Iterator[Metrics]:
    """Metrics that count: steps that a later epoch took back are left out."""
    for number, of_epoch in enumerate(lines):
        kept_to = min((later.resume_step for later in records[number + 1 :]), default=None)
        for line in of_epoch:
            step = _integer(line, "step")
            if kept_to is None or step is None or step <= kept_to:
                yield {**line, "epoch": number}


def _epochs(
    records: Sequence[EpochRecord],
    phases: Sequence[Phases | None],
    lines: Sequence[Sequence[Metrics]],
) -> Iterator[EpochShape]:
    furthest = 0  # applied before this epoch
    for number, record in enumerate(records):
        took = phases[number]
        yield EpochShape(
            epoch=number,
            members=record.members,
            resume_step=record.resume_step,
            at=record.at,
            why=record.why,
            steps_lost=max(0, furthest - record.resume_step),
            detect_s=took.detect_s if took else None,
            agree_s=took.agree_s if took else None,
            form_s=took.form_s if took else None,
            fetch_s=took.fetch_s if took else None,
            first_step_s=took.first_step_s if took else None,
        )
        steps = [step for line in lines[number] if (step := _integer(line, "step")) is not None]
        furthest = max([record.resume_step, *steps])


def _effective(
    lines: Sequence[Sequence[Metrics]],
    counting: Sequence[Metrics],
    phases: Sequence[Phases | None],
) -> float | None:
    """Time of the steps that count, by that of all steps and all changes but the first epoch's."""
    kept_s = sum(_number(line, "step_s") or 0.0 for line in counting)
    all_s = sum(_number(line, "step_s") or 0.0 for of_epoch in lines for line in of_epoch)
    changes_s = sum(took.lost_s for took in phases[1:] if took is not None)
    return kept_s / (all_s + changes_s) if kept_s else None


def last_metrics(checkpoints: Store, run: str, epochs: int) -> Metrics:
    """The newest training figures of a run: the last line of the newest epoch that has one."""
    for number in reversed(range(epochs)):
        for line in reversed(_lines(checkpoints, run, number)):
            if training_loss(line) is not None:
                return line
    return {}


def training_loss(line: Metrics) -> float | None:
    """The training loss of a line of metrics, if it is one that tells it."""
    return next((loss for name in LOSS_NAMES if (loss := _number(line, name)) is not None), None)


def _lines(checkpoints: Store, run: str, epoch: int) -> list[Metrics]:
    """Complete lines of one epoch's file; the last may still be in the writing."""
    try:
        text = checkpoints.get(f"{run}/metrics/{epoch}.jsonl").decode()
    except Missing:
        return []
    lines: list[Metrics] = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            lines.append(value)
    return lines


def _state(seen: Seen, entry: RunEntry, epochs: Sequence[EpochRecord]) -> str:
    if entry.outcome is not None:
        return entry.outcome
    if not seen.is_live(entry):
        return "dead"
    return "running" if epochs else "claimed"


def _loss(members: Sequence[Presence]) -> float | None:
    """Of the member that is furthest; all report the mean over the whole batch."""
    told = [p for p in members if p.loss is not None]
    return max(told, key=lambda p: p.step).loss if told else None


def _tokens_per_s(members: Sequence[Presence]) -> float | None:
    return max((p.tokens_per_s for p in members if p.tokens_per_s is not None), default=None)


def _integer(line: Metrics, name: str) -> int | None:
    value = line.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(line: Metrics, name: str) -> float | None:
    value = line.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None  # type: ignore[arg-type]
