"""What a change of membership took, phase by phase."""

from pathlib import Path

from runtime.coordination.phases import Phases, Stopwatch, read_phases, write_phases
from runtime.objects import file_url, open_store

RUN = "run-1"


def change(watch: Stopwatch, began_s: float) -> None:
    """A change with phases of 1, 2 and 4 s; its first step follows."""
    watch.take_up(began_s + 1)
    watch.formed_s = began_s + 3
    watch.fetched_s = began_s + 7


def test_phases_run_from_the_first_sign_to_the_first_step() -> None:
    watch = Stopwatch()
    watch.sign(10.0, silent_s=5.0)
    watch.sign(10.5)
    change(watch, 10.0)

    phases = watch.first_step(7 + 10 + 8)

    assert phases == Phases(detect_s=5, agree_s=1, form_s=2, fetch_s=4, first_step_s=8)
    assert phases.lost_s == 12
    assert watch.first_step(30.0) is None


def test_a_later_change_knows_nothing_of_an_earlier_one() -> None:
    watch = Stopwatch()
    watch.sign(10.0, silent_s=5.0)
    change(watch, 10.0)
    watch.first_step(20.0)

    watch.sign(100.0)
    change(watch, 100.0)

    assert watch.first_step(110.0) == Phases(
        detect_s=0, agree_s=1, form_s=2, fetch_s=4, first_step_s=3
    )


def test_an_epoch_that_broke_before_its_first_step_is_part_of_the_next_change() -> None:
    watch = Stopwatch()
    watch.sign(10.0)
    change(watch, 10.0)
    watch.sign(15.0)
    change(watch, 20.0)

    phases = watch.first_step(30.0)

    assert phases is not None
    assert phases.agree_s == 11


def test_what_is_written_is_read_and_what_is_not_is_none(tmp_path: Path) -> None:
    control = open_store(file_url(tmp_path))
    phases = Phases(detect_s=0, agree_s=1, form_s=2, fetch_s=4, first_step_s=3)

    write_phases(control, RUN, 1, phases)
    control.put(f"runs/{RUN}/phases/{2:08d}", b"garbage")

    assert [*read_phases(control, RUN, 3)] == [None, phases, None]
