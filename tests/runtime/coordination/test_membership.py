"""Who is in the next epoch: the rule, seen from single nodes, and all of it under blows."""

from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.coordination.log import EpochRecord
from runtime.coordination.membership import Heard, Member, Read, Ready, TakeUp
from runtime.coordination.next_epoch import (
    FINISHING,
    JOINING,
    NO_STATE,
    PREPARING,
    STUCK_EPOCHS,
    TRAINING,
    End,
    Keep,
    Propose,
    Rules,
    Status,
    View,
    Wait,
    decide,
    is_stuck,
    rank_key,
    rendezvous,
)
from runtime.limits import LAG_S, REJOIN_S, TURN_S
from tests.runtime.coordination.simulation import shake

AT = datetime(2026, 1, 2, tzinfo=UTC)
RULES = Rules(nodes=3, min_nodes=2, join_s=60, pause_s_max=300, watchdog_s=5)
ALL = tuple(f"training-{index}" for index in range(12))


def peer(index: int, state: str = JOINING, *, seen: int = 0, step: int = NO_STATE) -> Status:
    """One that hears everybody; with a step, it has the state of the last epoch it has seen."""
    return Status(
        node=f"training-{index}",
        boot_id="b",
        address=f"127.0.0.{10 + index}",
        state=state,
        seen=seen,
        epoch=seen - 1 if step != NO_STATE else NO_STATE,
        step=step,
        linked=ALL,
    )


def epoch(*indices: int, resume_step: int = 0) -> EpochRecord:
    return EpochRecord(
        kind="epoch",
        members=tuple(f"training-{index}" for index in indices),
        resume_step=resume_step,
        writer="training-0",
        at=AT,
    )


def view(me: int, peers: list[Status], waited_s: float = 0, *epochs: EpochRecord) -> View:
    return View(
        me=f"training-{me}",
        epochs=epochs,
        peers={peer.node: peer for peer in peers},
        waited_s=waited_s,
        at_work=frozenset(),
    )


def test_the_first_epoch_begins_at_once_when_all_nodes_of_the_plan_are_ready() -> None:
    decision = decide(view(0, [peer(2), peer(0), peer(1)]), RULES)

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


def test_survivors_go_on_at_once_from_what_they_hold() -> None:
    survivors = [peer(0, seen=1, step=40), peer(1, seen=1, step=40)]

    decision = decide(view(0, survivors, 0, epoch(0, 1, 2)), RULES)

    assert isinstance(decision, Propose)
    assert decision.members == decision.holders == ("training-0", "training-1")
    assert decision.resume_step == 40
    assert "training-2" in decision.why


def test_who_applied_a_step_more_holds_the_state_and_the_other_gets_it() -> None:
    survivors = [peer(0, seen=1, step=40), peer(1, seen=1, step=41)]

    decision = decide(view(1, survivors, 0, epoch(0, 1, 2)), RULES)

    assert isinstance(decision, Propose)
    assert decision.members == ("training-0", "training-1")
    assert decision.holders == ("training-1",)
    assert decision.resume_step == 41


def test_a_state_of_an_older_epoch_is_no_state_however_far_it_got() -> None:
    woken = peer(2, seen=2).model_copy(update={"epoch": 0, "step": 99})
    seen = [peer(0, seen=2, step=50), woken]

    decision = decide(view(0, seen, 0, epoch(0, 1, 2), epoch(0, 1)), RULES)

    assert isinstance(decision, Propose)
    assert decision.holders == ("training-0",)
    assert decision.resume_step == 50


def test_members_propose_in_turn() -> None:
    seen = [peer(0, seen=1, step=7), peer(1, seen=1, step=7)]

    assert isinstance(decide(view(0, seen, 0, epoch(0, 1, 2)), RULES), Propose)
    assert isinstance(decide(view(1, seen, 0, epoch(0, 1, 2)), RULES), Wait)
    assert isinstance(decide(view(1, seen, TURN_S, epoch(0, 1, 2)), RULES), Propose)


def test_a_member_that_has_not_read_the_last_epoch_is_waited_for_but_not_for_long() -> None:
    seen = [peer(0, seen=1, step=7), peer(1, seen=1, step=7), peer(2, seen=0)]

    assert isinstance(decide(view(0, seen, LAG_S / 2, epoch(0, 1, 2)), RULES), Wait)
    decision = decide(view(0, seen, LAG_S, epoch(0, 1, 2)), RULES)

    assert isinstance(decision, Propose)
    assert decision.members == ("training-0", "training-1")


def test_only_those_who_hear_each_other_make_a_group() -> None:
    deaf = peer(2, seen=1, step=7).model_copy(update={"linked": ("training-0",)})
    seen = [peer(0, seen=1, step=7), peer(1, seen=1, step=7), deaf]

    decision = decide(view(0, seen, 0, epoch(0, 1, 2)), RULES)

    assert isinstance(decision, Propose)
    assert decision.members == ("training-0", "training-1")


def test_with_nothing_in_memory_members_wait_for_each_other_to_come_back() -> None:
    restarted = [peer(0, seen=1), peer(1, seen=1)]

    assert isinstance(decide(view(0, restarted, REJOIN_S - 0.1, epoch(0, 1, 2)), RULES), Wait)
    decision = decide(view(0, restarted, REJOIN_S, epoch(0, 1, 2)), RULES)

    assert isinstance(decision, Propose)
    assert decision.holders == ()


def test_a_minority_waits_long_enough_for_the_majority_to_have_decided() -> None:
    rules = Rules(nodes=5, min_nodes=1, join_s=60, pause_s_max=300, watchdog_s=5)
    cut_off = [peer(0, seen=1, step=7), peer(1, seen=1, step=7)]
    last = epoch(0, 1, 2, 3, 4)

    assert isinstance(decide(view(0, cut_off, rules.minority_s - 1, last), rules), Wait)
    assert isinstance(decide(view(0, cut_off, rules.minority_s, last), rules), Propose)


def test_who_is_cut_off_leaves_those_alone_who_are_at_work() -> None:
    alone = [peer(3, seen=1)]
    elsewhere = frozenset({"training-0", "training-1"})
    newest = epoch(0, 1)

    cut_off = View(
        me="training-3", epochs=(newest,), peers={"training-3": alone[0]}, waited_s=200,
        at_work=elsewhere,
    )  # fmt: skip
    rules = Rules(nodes=3, min_nodes=1, join_s=60, pause_s_max=300, watchdog_s=5)

    assert decide(cut_off, rules) == Wait("training-0 is at work and is not heard here")
    assert isinstance(decide(replace(cut_off, at_work=frozenset()), rules), Propose)
    assert isinstance(decide(replace(cut_off, at_work=None), rules), Wait)


def test_a_survivor_does_not_ask_the_store_whether_the_dead_are_at_work() -> None:
    survivor = peer(0, seen=1, step=9)
    seen = View(
        me="training-0", epochs=(epoch(0, 1),), peers={"training-0": survivor}, waited_s=0,
        at_work=frozenset({"training-1"}),
    )  # fmt: skip

    assert isinstance(decide(seen, replace(RULES, min_nodes=1)), Propose)


def test_the_first_that_has_the_state_saves_it_when_too_few_are_left() -> None:
    few = [peer(0, seen=1, step=NO_STATE), peer(2, seen=1, step=7)]
    rules = replace(RULES, min_nodes=3)

    assert isinstance(decide(view(2, few, 20, epoch(0, 1, 2)), rules), Keep)
    assert isinstance(decide(view(0, few, 20, epoch(0, 1, 2)), rules), Wait)


def test_below_min_nodes_a_run_pauses_and_then_fails() -> None:
    alone = [peer(0, seen=1, step=7)]

    assert isinstance(decide(view(0, alone, 299, epoch(0, 1)), RULES), Keep)
    decision = decide(view(0, alone, 300, epoch(0, 1)), RULES)

    assert isinstance(decision, End)
    assert decision.outcome == "failed"


def test_a_newcomer_never_decides_while_members_are_at_work() -> None:
    for state in (TRAINING, FINISHING):
        seen = [peer(0, state, seen=1), peer(1, state, seen=1), peer(2, seen=1)]

        assert isinstance(decide(view(2, seen, 10_000, epoch(0, 1)), RULES), Wait)


def test_a_newcomer_is_in_the_epoch_after_the_members_have_paused() -> None:
    seen = [peer(0, seen=1, step=7), peer(1, seen=1, step=7), peer(2, seen=1)]

    decision = decide(view(0, seen, 0, epoch(0, 1)), RULES)

    assert isinstance(decision, Propose)
    assert decision.members == ("training-0", "training-1", "training-2")


def test_members_keep_their_place_when_more_are_ready_than_the_plan_has_nodes() -> None:
    seen = [peer(0, seen=1), *(peer(index, seen=1, step=7) for index in (1, 2, 3))]

    decision = decide(view(1, seen, 0, epoch(1, 2, 3)), RULES)

    assert isinstance(decision, Propose)
    assert decision.members == ("training-1", "training-2", "training-3")


def test_a_run_that_begins_at_the_same_step_again_and_again_is_stuck() -> None:
    same = [epoch(0, resume_step=50)] * STUCK_EPOCHS

    assert is_stuck(same, 50)
    assert not is_stuck(same, 60)
    assert not is_stuck(same[1:], 50)
    assert not is_stuck([epoch(0, resume_step=40), *same[1:]], 50)


def test_ranks_follow_the_numbers_in_names() -> None:
    names = ["training-10", "training-2", "training-1"]

    assert sorted(names, key=rank_key) == ["training-1", "training-2", "training-10"]


def ready_member(index: int) -> Member:
    """A node with nothing decided yet, its worker up."""
    member = Member(
        node=f"training-{index}", boot_id="b", address=f"127.0.0.{10 + index}", rules=RULES
    )
    member.handle(Ready(), 0.0)
    return member


def test_a_decision_may_be_heard_before_the_news_that_it_rests_on() -> None:
    member = ready_member(2)
    member.handle(Heard(peer(0)), 0.1)
    member.handle(Heard(peer(1, PREPARING)), 0.1)  # it is ready by now, and has told 0 so

    actions = member.handle(Read((epoch(0, 1, 2),)), 0.2)

    assert any(isinstance(action, TakeUp) for action in actions)


@pytest.mark.parametrize("state", [PREPARING, JOINING])
def test_a_member_that_has_dealt_with_an_epoch_and_is_out_has_left_it(state: str) -> None:
    member = ready_member(2)
    member.handle(Heard(peer(0, TRAINING, seen=1)), 0.1)
    member.handle(Heard(peer(1, state, seen=1)), 0.1)

    actions = member.handle(Read((epoch(0, 1, 2),)), 0.2)

    assert not any(isinstance(action, TakeUp) for action in actions)


def test_two_epochs_in_a_row_never_share_a_port() -> None:
    ports = [rendezvous("127.0.0.1", number) for number in (0, 1, 9_999, 10_000)]

    assert len(set(ports[:3])) == 3
    assert ports[2] != ports[3]


@given(
    states=st.lists(
        st.sampled_from([JOINING, TRAINING, FINISHING, "preparing"]), min_size=1, max_size=6
    ),
    members=st.sets(st.integers(0, 5), max_size=4),
    steps=st.lists(st.sampled_from([NO_STATE, 6, 7]), min_size=6, max_size=6),
    waited_s=st.floats(0, 1000),
    data=st.data(),
)
def test_all_who_are_ready_propose_the_same_members_and_only_ready_ones(
    states: list[str], members: set[int], steps: list[int], waited_s: float, data: st.DataObject
) -> None:
    epochs = [epoch(*sorted(members))] if members else []
    peers = [
        peer(index, state, seen=len(epochs), step=steps[index] if index in members else NO_STATE)
        for index, state in enumerate(states)
    ]
    ready = [index for index, state in enumerate(states) if state == JOINING]
    order = data.draw(st.permutations(peers))

    decisions = {me: decide(view(me, order, waited_s, *epochs), RULES) for me in ready}

    proposals = {d for d in decisions.values() if isinstance(d, Propose)}
    assert len(proposals) <= 1
    for proposal in proposals:
        assert set(proposal.members) <= {f"training-{index}" for index in ready}
        assert len(proposal.members) <= RULES.nodes
        held = [steps[int(node.rpartition("-")[2])] for node in proposal.holders]
        assert set(held) <= {max((steps[at] for at in ready if at in members), default=NO_STATE)}


def shake_some(seed: int, times: int) -> None:
    """Blows on pools of all sizes: one history, whatever strikes, and in peace the run goes on."""
    for number in range(times):
        draw = Random(f"{seed} {number}")
        nodes = draw.randrange(2, 8)
        at = draw.randrange(1 << 32)

        sim = shake(at, nodes=nodes, min_nodes=draw.randrange(1, nodes + 1), blows=40)

        before = max(sim.lineage())
        sim.run(sim.now_s + 5)
        assert not sim.is_over, f"shake({at}): {sim.history[-1]}"
        assert len(sim.log[-1].members) == nodes, f"shake({at}): {sim.history[-5:]}"
        assert max(sim.lineage()) > before, f"shake({at}): no step in peace"


def test_whatever_strikes_there_is_one_history_and_the_run_goes_on(seed: int) -> None:
    shake_some(seed, 15)


@pytest.mark.slow
@pytest.mark.parametrize("share", range(2))
def test_whatever_strikes_often_there_is_one_history(seed: int, share: int) -> None:
    shake_some(seed + share, 150)
