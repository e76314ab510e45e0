"""An `up` or a `destroy` of AWS that is broken off anywhere: one command heals it, nothing is left.

A sample of all calls, drawn anew in each run. Kills of the engine are played by the benchmark
alone (`tests.benchmarks.interrupted`): not every one of them is healed yet.
"""

from collections.abc import Iterator
from random import Random

import pytest

from infra.engine import Engine
from tests.doubles.interruptions import Deed, Interruption, Rehearsal, Verb, rehearse
from tests.doubles.rented_clone import rented_clone

pytestmark = pytest.mark.slow

STACK = "aws-cpu"
VERBS: tuple[Verb, ...] = ("up", "destroy")


@pytest.fixture(scope="module")
def rehearsal(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """A stack that was there once."""
    with rented_clone(tmp_path_factory.mktemp("aws"), engine) as rented:
        yield rehearse(rented, STACK)


@pytest.mark.parametrize("deed", ["fail", "fail_after"])
def test_what_is_broken_off_is_healed_by_one_command(
    rehearsal: Rehearsal, deed: Deed, seed: int
) -> None:
    draw = Random(seed)
    verb = draw.choice(VERBS)
    what = Interruption(verb=verb, deed=deed, nth=draw.randint(1, rehearsal.calls[verb]))

    assert rehearsal.play(what) == ""
