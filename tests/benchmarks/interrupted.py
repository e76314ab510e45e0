"""[interrupted]: every call of `up` and `destroy` of the small AWS stacks, failed and killed at.

`--every N` plays each Nth call alone: all of them take hours.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from infra.engine import find_engine
from tests.benchmarks.figures import Figure, Goal, figure, run
from tests.doubles.interruptions import DEEDS, Interruption, Rehearsal, Verb, rehearse
from tests.doubles.rented_clone import rented_clone

STACKS = ("aws-cpu", "aws-small")
VERBS: tuple[Verb, ...] = ("up", "destroy")


def options() -> argparse.ArgumentParser:
    """What this benchmark alone understands."""
    more = argparse.ArgumentParser(add_help=False)
    more.add_argument("--every", type=int, default=1, help="only each Nth call")
    more.add_argument("--stack", choices=STACKS, action="append", help="only this one")
    return more


def measure(is_quick: bool) -> Sequence[Figure]:
    """How many of them are healed by one command, with nothing left."""
    chosen, _ = options().parse_known_args()
    every = 40 if is_quick else chosen.every
    figures: list[Figure] = []
    for stack in chosen.stack or STACKS:
        engine = find_engine(print)
        with tempfile.TemporaryDirectory() as name, rented_clone(Path(name), engine) as rented:
            rehearsal = rehearse(rented, stack)
            figures += [_played(rehearsal, verb, every) for verb in VERBS]
    return figures


def _played(rehearsal: Rehearsal, verb: Verb, every: int) -> Figure:
    calls = rehearsal.calls[verb]
    not_healed = 0
    played = 0
    for nth in range(1, calls + 1, every):
        for deed in DEEDS:
            why = rehearsal.play(Interruption(verb=verb, deed=deed, nth=nth))
            played += 1
            not_healed += bool(why)
            print(why or f"{verb} {deed} {nth}: healed", file=sys.stderr, flush=True)
    return figure(
        f"{rehearsal.stack}: {verb} of {calls} calls, broken off {played} times, not healed by "
        "one command with nothing left",
        "",
        [not_healed],
        Goal(exactly=0),
    )


if __name__ == "__main__":
    run("interrupted", measure, [options()])
