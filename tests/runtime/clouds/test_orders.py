"""How long is waited before an order is given again, and what a misfit shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from runtime.clouds.orders import Answer, pause_s
from runtime.limits import CONTROL_AGAIN_S_MAX, CONTROL_TRIES


@given(
    number=st.integers(0, CONTROL_TRIES),
    asked_s=st.floats(0, 1e9),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_a_pause_is_bounded_grows_and_is_as_long_as_was_asked_for(
    number: int, asked_s: float, chance: float
) -> None:
    pause = pause_s(number, asked_s, chance)

    assert 0 < pause <= CONTROL_AGAIN_S_MAX
    assert pause >= min(asked_s, CONTROL_AGAIN_S_MAX)
    assert pause <= pause_s(number + 1, asked_s, chance)


def test_nodes_that_fail_together_do_not_ask_again_together() -> None:
    assert len({pause_s(3, 0.0, chance / 8) for chance in range(8)}) == 8


def test_an_answer_that_does_not_fit_does_not_show_what_stood_there() -> None:
    class Told(Answer):
        value: SecretStr

    with pytest.raises(ValidationError) as fault:
        Told.model_validate({"value": ["hidden"]})

    assert "hidden" not in str(fault.value)
