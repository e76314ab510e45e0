"""A save killed anywhere leaves a sound newest checkpoint, and can be done again."""

from pathlib import Path
from random import Random

import pytest

from tests.benchmarks.crashes import (
    Aftermath,
    crash_child,
    flip_bits,
    has_strace,
    kill_a_save,
    kill_at_store_calls,
)

POINTS = 60


@pytest.mark.slow
@pytest.mark.skipif(not has_strace(), reason="strace is not on the path")
def test_a_save_killed_at_any_system_call_leaves_a_sound_newest_checkpoint(
    tmp_path: Path, seed: int
) -> None:
    draw = Random(seed)
    met: list[Aftermath] = []
    with crash_child("ours") as child:
        while len(met) < POINTS:
            aftermath = kill_a_save(child, tmp_path / "crash", draw)
            if aftermath is not None:
                met.append(aftermath)

    assert all(aftermath.is_readable for aftermath in met)
    assert {aftermath.is_new for aftermath in met} == {True, False}  # on both sides of the commit


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_save_killed_at_any_call_of_the_store_leaves_a_sound_newest_checkpoint(
    tmp_path: Path, side: str
) -> None:
    readable = kill_at_store_calls(tmp_path, side)

    assert len(readable) > 10
    assert all(readable)


def test_every_flipped_bit_is_found(tmp_path: Path, seed: int) -> None:
    assert flip_bits(tmp_path / "flips", Random(seed), 60) == 60
