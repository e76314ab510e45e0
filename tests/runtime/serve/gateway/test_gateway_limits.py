from hashlib import sha256

import pytest

from runtime.limits import RETRY_BUDGET
from runtime.serve.gateway.limits import RetryBudget, is_key_accepted

DIGESTS = tuple(sha256(key.encode()).hexdigest() for key in ("first", "second"))


@pytest.mark.parametrize("header", ["Bearer first", "bearer second", "Bearer  second"])
def test_every_key_that_was_given_out_is_accepted(header: str) -> None:
    assert is_key_accepted(header, DIGESTS)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer third", "Basic first", "first", DIGESTS[0]]
)
def test_anything_else_is_not(header: str | None) -> None:
    assert not is_key_accepted(header, DIGESTS)


def test_a_digest_is_no_key() -> None:
    assert not is_key_accepted(f"Bearer {DIGESTS[0]}", DIGESTS)


def test_retries_come_in_a_burst_and_then_as_a_share_of_the_requests() -> None:
    budget = RetryBudget()
    burst = sum(budget.take() for _ in range(10 * RETRY_BUDGET))

    later = 0
    for _ in range(100):
        budget.request()
        later += budget.take()

    assert burst == RETRY_BUDGET
    assert 15 <= later <= 20
