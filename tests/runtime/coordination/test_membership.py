"""Who is in the next epoch: the rule, seen from single nodes."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from runtime.coordination.log import EpochRecord, Presence
from runtime.coordination.membership import (
    FINISHING,
    JOINING,
    MINORITY_S,
    STUCK_EPOCHS,
    TRAINING,
    End,
    Propose,
    Rules,
    View,
    Wait,
    decide,
    is_stuck,
    newcomers,
    rank_key,
    rendezvous,
)
from runtime.limits import REJOIN_S

AT = datetime(2026, 1, 2, tzinfo=UTC)
RULES = Rules(nodes=3, min_nodes=2, join_s=60, pause_s_max=300)


def peer(index: int, state: str = JOINING) -> Presence:
    return Presence(
        node=f"training-{index}",
        pool="training",
        role="training",
        address=f"127.0.0.{10 + index}",
        boot_id="b",
        pid=1,
        state=state,
    )


def epoch(*indices: int, resume_step: int = 0) -> EpochRecord:
    return EpochRecord(
        kind="epoch",
        members=tuple(f"training-{index}" for index in indices),
        resume_step=resume_step,
        writer="training-0",
        at=AT,
    )


def view(me: int, peers: list[Presence], waited_s: float = 0, *epochs: EpochRecord) -> View:
    return View(me=f"training-{me}", epochs=epochs, peers=peers, waited_s=waited_s)


def test_the_first_epoch_begins_at_once_when_all_nodes_of_the_plan_are_ready() -> None:
    decision = decide(view(1, [peer(2), peer(0), peer(1)]), RULES)

    assert isinstance(decision, Propose)
    assert decision.members == ("training-0", "training-1", "training-2")
    assert decision.address == "127.0.0.10"


def test_the_first_epoch_waits_join_s_for_missing_nodes_then_goes_without() -> None:
    ready = [peer(0), peer(2), peer(1, "preparing")]

    assert isinstance(decide(view(0, ready, 59.9), RULES), Wait)
    decision = decide(view(0, ready, 60), RULES)

    assert isinstance(decision, Propose)
    assert decision.members == ("training-0", "training-2")


def test_too_few_nodes_at_join_s_end_the_run_without_capacity() -> None:
    decision = decide(view(0, [peer(0)], 60), RULES)

    assert isinstance(decision, End)
    assert decision.outcome == "no-capacity"


def test_survivors_wait_for_a_lost_member_to_return_and_then_go_on_without_it() -> None:
    survivors = [peer(0), peer(1), peer(2, TRAINING)]  # the dead one's last word still looks fresh

    assert isinstance(decide(view(0, survivors, REJOIN_S - 0.1, epoch(0, 1, 2)), RULES), Wait)
    decision = decide(view(0, survivors, REJOIN_S, epoch(0, 1, 2)), RULES)

    assert isinstance(decision, Propose)
    assert decision.members == ("training-0", "training-1")
    assert "training-2" in decision.why


def test_a_member_that_is_back_is_not_waited_for() -> None:
    decision = decide(view(0, [peer(0), peer(1)], 0, epoch(0, 1)), RULES)

    assert isinstance(decision, Propose)
    assert decision.members == ("training-0", "training-1")


def test_a_minority_waits_long_enough_for_the_majority_to_have_decided() -> None:
    rules = Rules(nodes=5, min_nodes=1, join_s=60, pause_s_max=300)
    cut_off = [peer(0), peer(1)]
    last = epoch(0, 1, 2, 3, 4)

    assert isinstance(decide(view(0, cut_off, MINORITY_S - 1, last), rules), Wait)
    assert isinstance(decide(view(0, cut_off, MINORITY_S, last), rules), Propose)


def test_below_min_nodes_a_run_pauses_and_then_fails() -> None:
    alone = [peer(0)]

    assert isinstance(decide(view(0, alone, 299, epoch(0, 1)), RULES), Wait)
    decision = decide(view(0, alone, 300, epoch(0, 1)), RULES)

    assert isinstance(decision, End)
    assert decision.outcome == "failed"


def test_a_newcomer_never_decides_while_members_are_at_work() -> None:
    for state in (TRAINING, FINISHING):
        seen = [peer(0, state), peer(1, state), peer(2)]

        assert isinstance(decide(view(2, seen, 10_000, epoch(0, 1)), RULES), Wait)


def test_a_newcomer_is_in_the_epoch_after_the_members_have_paused() -> None:
    decision = decide(view(0, [peer(0), peer(1), peer(2)], 0, epoch(0, 1)), RULES)

    assert isinstance(decision, Propose)
    assert decision.members == ("training-0", "training-1", "training-2")


def test_members_keep_their_place_when_more_are_ready_than_the_plan_has_nodes() -> None:
    seen = [peer(index) for index in (0, 1, 2, 3)]

    decision = decide(view(3, seen, 0, epoch(1, 2, 3)), RULES)

    assert isinstance(decision, Propose)
    assert decision.members == ("training-1", "training-2", "training-3")


def test_newcomers_are_sought_only_as_far_as_there_is_room() -> None:
    seen = [peer(0, TRAINING), peer(10), peer(2), peer(1, "preparing")]

    assert newcomers(seen, ["training-0"], RULES) == ["training-2", "training-10"]
    assert newcomers(seen, ["training-0", "training-3"], RULES) == ["training-2"]
    assert newcomers(seen, ["training-0", "training-3", "training-4"], RULES) == []


def test_a_run_that_begins_at_the_same_step_again_and_again_is_stuck() -> None:
    same = [epoch(0, resume_step=50)] * STUCK_EPOCHS

    assert is_stuck(same, 50)
    assert not is_stuck(same, 60)
    assert not is_stuck(same[1:], 50)
    assert not is_stuck([epoch(0, resume_step=40), *same[1:]], 50)


def test_ranks_follow_the_numbers_in_names() -> None:
    names = ["training-10", "training-2", "training-1"]

    assert sorted(names, key=rank_key) == ["training-1", "training-2", "training-10"]


def test_two_epochs_in_a_row_never_share_a_port() -> None:
    ports = [rendezvous("127.0.0.1", number) for number in (0, 1, 9_999, 10_000)]

    assert len(set(ports[:3])) == 3
    assert ports[2] != ports[3]


@given(
    states=st.lists(
        st.sampled_from([JOINING, TRAINING, FINISHING, "preparing"]), min_size=1, max_size=6
    ),
    members=st.sets(st.integers(0, 5), max_size=4),
    waited_s=st.floats(0, 1000),
    data=st.data(),
)
def test_all_who_are_ready_propose_the_same_members_and_only_ready_ones(
    states: list[str], members: set[int], waited_s: float, data: st.DataObject
) -> None:
    peers = [peer(index, state) for index, state in enumerate(states)]
    ready = [index for index, state in enumerate(states) if state == JOINING]
    epochs = [epoch(*sorted(members))] if members else []
    order = data.draw(st.permutations(peers))

    decisions = {me: decide(view(me, order, waited_s, *epochs), RULES) for me in ready}

    proposals = {d for d in decisions.values() if isinstance(d, Propose)}
    assert len(proposals) <= 1
    for proposal in proposals:
        assert set(proposal.members) <= {f"training-{index}" for index in ready}
        assert len(proposal.members) <= RULES.nodes
