"""Who is slow is named within some steps, and nobody is for a hiccup."""

from random import Random

from runtime.train.pace import SLOW_RATIO, WINDOW_STEPS, Pace


def pace_of(*steps: list[float]) -> Pace:
    pace = Pace()
    for step in steps:
        pace.add(step)
    return pace


def test_a_member_that_is_slow_step_after_step_is_named_with_how_slow() -> None:
    pace = pace_of(*[[1.0, 1.1, 3.0, 0.9]] * WINDOW_STEPS)

    found = pace.straggler()

    assert found is not None
    assert found[0] == 2
    assert abs(found[1] - 3.0) < 0.01


def test_a_slow_member_is_named_within_half_a_window() -> None:
    pace = pace_of(*[[1.0, 1.0]] * WINDOW_STEPS, *[[1.0, 2.0]] * (WINDOW_STEPS // 2))

    assert pace.straggler() is not None


def test_members_that_are_slow_in_turn_are_not_named(seed: int) -> None:
    draw = Random(seed)
    members = 4
    order = [at % members for at in range(WINDOW_STEPS)]
    draw.shuffle(order)

    pace = pace_of(*([9.0 if rank == slow else 1.0 for rank in range(members)] for slow in order))

    assert pace.straggler() is None


def test_who_has_caught_up_is_named_no_longer() -> None:
    pace = pace_of(*[[1.0, 2.0]] * WINDOW_STEPS, *[[1.0, 1.0]] * WINDOW_STEPS)

    assert pace.straggler() is None


def test_a_little_slower_is_not_slow_and_one_alone_never_is() -> None:
    assert pace_of(*[[1.0, SLOW_RATIO - 0.01]] * WINDOW_STEPS).straggler() is None
    assert pace_of(*[[5.0]] * WINDOW_STEPS).straggler() is None
