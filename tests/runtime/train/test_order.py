"""The order of samples, and who computes which: pure, so mostly properties."""

from hypothesis import given
from hypothesis import strategies as st

from runtime.train.order import chunks, permuted, sample_of, share

SIZE_MAX = 300
KEYS = st.integers(0, (1 << 64) - 1)


@given(size=st.integers(1, SIZE_MAX), key=KEYS)
def test_every_key_permutes_every_size(size: int, key: int) -> None:
    assert sorted(permuted(index, size, key) for index in range(size)) == list(range(size))


@given(samples=st.integers(1, SIZE_MAX), seed=st.integers(0, 1 << 32), passes=st.integers(0, 50))
def test_every_pass_sees_every_sample_once(samples: int, seed: int, passes: int) -> None:
    begin = passes * samples

    seen = [sample_of(begin + at, samples, seed) for at in range(samples)]

    assert sorted(seen) == list(range(samples))


def test_passes_and_seeds_have_orders_of_their_own() -> None:
    orders = {
        tuple(sample_of(number * 64 + at, 64, seed) for at in range(64))
        for seed in range(5)
        for number in range(5)
    }

    assert len(orders) == 25
    assert tuple(range(64)) not in orders


@given(key=KEYS)
def test_neighbours_do_not_stay_neighbours(key: int) -> None:
    size = 256
    places = [permuted(index, size, key) for index in range(size)]

    together = sum(abs(places[index + 1] - places[index]) == 1 for index in range(size - 1))

    # By chance 2 of 256; text that follows on itself would be learned in one batch.
    assert together < size // 8


def test_the_order_is_the_one_that_running_trainings_have() -> None:
    # A run resumes by counting: another order would repeat some samples and skip others.
    first, second = [2, 3, 6, 9, 4, 5, 0, 8, 7, 1], [6, 7, 8, 9, 4, 3, 5, 2, 0, 1]
    assert [sample_of(at, 10, seed=0) for at in range(20)] == first + second
    assert permuted(123_456_789, 1_000_000_007, key=42) == 536_765_754


@given(batch=st.integers(0, 500), world_size=st.integers(1, 64))
def test_shares_are_the_batch_in_order_and_alike(batch: int, world_size: int) -> None:
    shares = [share(batch, rank, world_size) for rank in range(world_size)]

    assert [at for mine in shares for at in mine] == list(range(batch))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(positions=st.lists(st.integers(), max_size=50), size=st.integers(1, 60))
def test_micro_batches_are_full_but_for_the_last(positions: list[int], size: int) -> None:
    parts = chunks(positions, size)

    assert [at for part in parts for at in part] == positions
    assert all(len(part) == size for part in parts[:-1])
    assert all(0 < len(part) <= size for part in parts)
