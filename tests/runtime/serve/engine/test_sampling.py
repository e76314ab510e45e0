from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from runtime.serve.engine.protocol import SEED_MAX, SEED_MIN
from runtime.serve.engine.sampling import Sampling, choose, uniform

SEEDS = st.integers(SEED_MIN, SEED_MAX)


@given(seed=SEEDS, position=st.integers(0, 2**40))
def test_numbers_lie_in_the_unit_interval(seed: int, position: int) -> None:
    assert 0 <= uniform(seed, position) < 1


def test_numbers_are_the_same_on_every_machine() -> None:
    # Written down once: a change would break streams that go on from another replica's start.
    assert [round(uniform(7, position), 9) for position in range(3)] == [
        0.105156349,
        0.842900959,
        0.749852874,
    ]


def test_numbers_of_neighbouring_positions_and_seeds_look_independent() -> None:
    by_position = torch.tensor([uniform(1, position) for position in range(4000)])
    by_seed = torch.tensor([uniform(seed, 1) for seed in range(4000)])

    for numbers in (by_position, by_seed):
        # Of 4,000 uniform numbers the mean has a deviation of 0.0046, the correlation one of 0.016.
        assert abs(float(numbers.mean()) - 0.5) < 0.023
        pairs = torch.stack([numbers[:-1], numbers[1:]])
        assert abs(float(torch.corrcoef(pairs)[0, 1])) < 0.08


@given(seed=SEEDS, position=st.integers(0, 1000), others=st.lists(st.integers(0, 1000)))
def test_a_token_depends_on_seed_and_position_alone(
    seed: int, position: int, others: list[int]
) -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(3))
    sampling = Sampling(seed=seed)
    alone = choose(logits, sampling, position)

    for other in others:
        choose(logits, sampling, other)

    assert choose(logits, sampling, position) == alone


def test_temperature_zero_takes_the_largest_and_of_equals_the_first() -> None:
    assert choose(torch.tensor([0.0, 2.0, 1.0, 2.0]), Sampling(temperature=0), 0) == 1


def test_top_p_leaves_the_fewest_tokens_that_reach_it() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    sampling = Sampling(top_p=0.7, seed=5)

    seen = Counter(choose(logits, sampling, position) for position in range(2000))

    assert set(seen) == {0, 1}
    assert abs(seen[0] / 2000 - 0.5 / 0.8) < 0.05


def test_tokens_come_as_often_as_their_probability_says() -> None:
    probability = torch.tensor([0.1, 0.6, 0.3])

    seen = Counter(
        choose(probability.log(), Sampling(seed=9), position) for position in range(3000)
    )

    for token, expected in enumerate(probability.tolist()):
        assert abs(seen[token] / 3000 - expected) < 0.04


def test_a_tiny_temperature_or_top_p_is_greedy_and_finite() -> None:
    logits = torch.tensor([1.0, 5.0, 4.9])

    assert choose(logits, Sampling(temperature=1e-9), 3) == 1
    assert choose(logits, Sampling(top_p=1e-9), 3) == 1
