from hypothesis import given
from hypothesis import strategies as st

from runtime.serve.admission import Admitted, Load, Rejected, Room, admit

ROOM = Room(slots=2, queue=3, tokens=1000)


def load(requests: int, tokens: int, tokens_per_s: float = 100) -> Load:
    return Load(requests=requests, tokens=tokens, tokens_per_s=tokens_per_s)


def test_slots_and_queue_are_filled_and_no_more() -> None:
    assert admit(ROOM, load(4, 40), 10) == Admitted()
    assert isinstance(admit(ROOM, load(5, 50), 10), Rejected)


def test_the_token_budget_binds_before_the_count() -> None:
    assert admit(ROOM, load(1, 900), 100) == Admitted()
    assert isinstance(admit(ROOM, load(1, 900), 101), Rejected)


def test_an_empty_replica_takes_any_request() -> None:
    assert admit(ROOM, load(0, 0), 5000) == Admitted()


def test_retry_after_is_the_time_to_work_off_what_is_too_much() -> None:
    decision = admit(ROOM, load(1, 1000, tokens_per_s=50), 400)

    assert isinstance(decision, Rejected)
    assert decision.retry_after_s == 8


@given(
    requests=st.integers(1, 100),
    tokens=st.integers(1, 10**6),
    rate=st.floats(0, 10**6),
    asked=st.integers(1, 10**6),
)
def test_who_is_refused_is_told_a_sane_time(
    requests: int, tokens: int, rate: float, asked: int
) -> None:
    decision = admit(ROOM, load(requests, tokens, rate), asked)

    if isinstance(decision, Rejected):
        assert 1 <= decision.retry_after_s <= 60
