"""[rehearsal]: boot texts executed as they are, on emulated S3; times of each part.

Machines are namespaces of this one that share its two cores, and packages come from a folder: times
say what the text and the runtime do, not how long a rented machine takes.
"""

from collections.abc import Sequence
from contextlib import ExitStack

from tests.benchmarks.figures import Figure, Goal, figure, run
from tests.doubles.rehearsal_play import Played, play
from tests.doubles.rehearsal_stack import stocked

REPEATS = 3


def measure(is_quick: bool) -> Sequence[Figure]:
    """From the first machine's start to a first answer."""
    played = [_play() for _ in range(1 if is_quick else REPEATS)]
    silent = [float(not each.answer["usage"]["completion_tokens"]) for each in played]
    unpublished = [float(each.times["outcome"]) for each in played]
    parts = [name for name in played[0].times if name != "outcome"]
    return [
        figure("runs that were not published", "", unpublished, Goal(exactly=0)),
        figure("questions without an answer", "", silent, Goal(exactly=0)),
        *(figure(name, "s", [each.times[name] for each in played]) for name in parts),
    ]


def _play() -> Played:
    with ExitStack() as stack:
        played = play(stack, stack.enter_context(stocked()))
        played.times["outcome"] = float(played.outcome != "published")
        return played


if __name__ == "__main__":
    run("rehearsal", measure)
