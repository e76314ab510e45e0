"""What a loss or a newcomer cost, from kills, metrics lines and logs. Pure.

Phases follow each other: detect (until the last survivor has left the broken epoch), agree (until
the last member has been told the next one), form (until the last has its group), fetch (until the
last has the state), and the first step.
"""

import itertools
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from runtime.coordination.log import EpochRecord
from tests.benchmarks.training_pool import Harm, Line

NORMAL_STEPS = 20  # of the epoch before, whose median is a normal step
PHASES = ("detect", "agree", "form", "fetch")
# What an agent or a worker logs, and what is over by then.
SIGNS = {
    "detect": r"worker: epoch {before} broken at step",
    "agree": r"agent: epoch {after}: rank \d+ of",
    "form": r"agent: epoch {after}: the group stands",
    "fetch": r"agent: epoch {after}: the state is there",
}

Steps = Sequence[Sequence[Mapping[str, float]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """From one epoch that worked to the next one that did."""

    before: int
    after: int
    began_s: float
    gap_s: float  # from the kill, or from the last step before a pause, to the next applied step
    normal_s: float  # a normal step of the epoch before
    steps_lost: int  # applied before, and again afterwards
    phases: Mapping[str, float]  # those whose signs were found
    first_step_s: float  # what is left of the gap

    @property
    def overhead_s(self) -> float:
        """Beyond one normal step."""
        return self.gap_s - self.normal_s


def loss(harm: Harm, records: Sequence[EpochRecord], steps: Steps, lines: Sequence[Line]) -> Change:
    """What a kill cost the others."""
    after = _next_with_steps(harm.epoch, steps)
    return _change(harm.at_s, harm.epoch, after, records, steps, lines)


def losses(
    harms: Iterable[Harm], records: Sequence[EpochRecord], steps: Steps, lines: Sequence[Line]
) -> Iterator[Change]:
    """What a storm cost: harm to nodes that were in, once for all harm that one epoch mended."""
    mended = set[int]()
    for harm in harms:
        is_mended = any(steps[harm.epoch + 1 :])
        if is_mended and harm.node in records[harm.epoch].members:
            change = loss(harm, records, steps, lines)
            if change.after not in mended and "detect" in change.phases:
                mended.add(change.after)
                yield change


def joins(records: Sequence[EpochRecord], steps: Steps, lines: Sequence[Line]) -> Iterator[Change]:
    """What newcomers cost: epochs that end in a pause, the next one having one member more."""
    for before, (old, new) in enumerate(itertools.pairwise(records)):
        is_join = set(old.members) < set(new.members) and set(new.holders) == set(old.members)
        if is_join and len(steps[before]) > 1 and steps[before + 1]:
            began_s = steps[before][-1]["at"]
            yield _change(began_s, before, before + 1, records, steps, lines)


def shares(changes: Iterable[Change], whole_s: float) -> dict[str, float]:
    """Of a time, what each phase took."""
    known = list(changes)
    return {
        phase: sum(change.phases.get(phase, 0.0) for change in known) / whole_s for phase in PHASES
    }


def normal_step_s(steps: Sequence[Mapping[str, float]]) -> float:
    """Median distance of the last applied steps."""
    at = [line["at"] for line in steps[-NORMAL_STEPS - 1 :]]
    return statistics.median(b - a for a, b in itertools.pairwise(at))


def _change(
    began_s: float,
    before: int,
    after: int,
    records: Sequence[EpochRecord],
    steps: Steps,
    lines: Sequence[Line],
) -> Change:
    first = steps[after][0]
    # In a storm an epoch may be broken before it has taken a step.
    known = next(number for number in range(before, -1, -1) if len(steps[number]) > 1)
    phases, at_s = _phases(began_s, before, after, records[after].members, lines)
    return Change(
        before=before,
        after=after,
        began_s=began_s,
        gap_s=first["at"] - began_s,
        normal_s=normal_step_s(steps[known]),
        steps_lost=int(steps[known][-1]["step"] - first["step"] + 1),
        phases=phases,
        first_step_s=first["at"] - at_s,
    )


def _next_with_steps(epoch: int, steps: Steps) -> int:
    return next(number for number in range(epoch + 1, len(steps)) if steps[number])


def _phases(
    began_s: float, before: int, after: int, members: Sequence[str], lines: Sequence[Line]
) -> tuple[dict[str, float], float]:
    """How long each phase took, and when the last one was over."""
    phases: dict[str, float] = {}
    at_s = began_s
    for phase, sign in SIGNS.items():
        pattern = re.compile(sign.format(before=before, after=after))
        found = [
            line.at_s
            for line in lines
            if line.node in members and line.at_s >= began_s and pattern.match(line.text)
        ]
        if found:
            phases[phase] = max(max(found) - at_s, 0.0)
            at_s = max(at_s, *found)
    return phases, at_s
