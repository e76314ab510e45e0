import pytest

from runtime.errors import Refused
from runtime.serve.states import TABLE, Event, Life, State


def at(state: State) -> Life:
    life = Life()
    life.state = state
    return life


def test_an_event_that_is_not_in_the_table_raises_and_changes_nothing() -> None:
    for state in State:
        for event in set(Event) - set(TABLE[state]):
            life = at(state)

            with pytest.raises(Refused, match=event.value):
                life.take(event)

            assert life.state is state


def test_ready_never_follows_draining_or_stopped() -> None:
    reachable = {State.DRAINING}

    for _ in State:
        reachable |= {after for state in reachable for after in TABLE[state].values()}

    assert reachable == {State.DRAINING, State.STOPPED}


def test_every_state_leads_to_stopped() -> None:
    for state in State:
        reachable = {state}
        for _ in State:
            reachable |= {after for s in reachable for after in TABLE[s].values()}

        assert State.STOPPED in reachable


def test_only_a_proof_makes_ready() -> None:
    for state, row in TABLE.items():
        for event, after in row.items():
            assert after is not State.READY or (state, event) == (State.WARMING, Event.PROVED)
