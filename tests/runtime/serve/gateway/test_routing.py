import random

from hypothesis import given
from hypothesis import strategies as st

from runtime.serve.gateway.routing import choose


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=9), st.randoms())
def test_the_most_loaded_is_chosen_only_if_it_is_alone(
    loads: list[int], source: random.Random
) -> None:
    chosen = choose(loads, source.randrange)

    assert len(loads) == 1 or loads[chosen] <= sorted(loads)[-2]


def test_load_stays_even() -> None:
    source = random.Random(1)
    loads = [0] * 5

    for _ in range(5000):
        loads[choose(loads, source.randrange)] += 1

    assert max(loads) - min(loads) < 10


def test_equal_loads_are_spread() -> None:
    source = random.Random(2)

    assert {choose([0, 0, 0], source.randrange) for _ in range(100)} == {0, 1, 2}
