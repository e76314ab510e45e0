import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.errors import Refused
from runtime.serve.engine.scheduler import Scheduler, Step


def prefill_all(scheduler: Scheduler) -> None:
    """Step until no prompt is left; each row gets its first token when its prompt is done."""
    while (chunk := scheduler.next_step().prefill) is not None:
        if chunk.is_last:
            chunk.row.tokens.append(1)


def test_requests_join_while_others_decode() -> None:
    scheduler = Scheduler(slots=2, queue=0)
    first = scheduler.add("first", [1, 2])
    prefill_all(scheduler)

    second = scheduler.add("second", [3])
    step = scheduler.next_step()

    assert step.decode == (first,)
    assert step.prefill is not None
    assert step.prefill.row is second


def test_a_long_prompt_delays_others_by_one_chunk_per_step() -> None:
    scheduler = Scheduler(slots=2, queue=0, chunk_tokens=4)
    short = scheduler.add("short", [1])
    prefill_all(scheduler)
    scheduler.add("long", list(range(10)))

    steps = [scheduler.next_step() for _ in range(3)]

    assert [step.decode for step in steps] == [(short,)] * 3
    assert [(s.prefill.start, s.prefill.end) for s in steps if s.prefill] == [
        (0, 4),
        (4, 8),
        (8, 10),
    ]


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    scheduler = Scheduler(slots=2, queue=0, chunk_tokens=4)
    scheduler.add("long", list(range(100)))
    scheduler.add("short", [1])

    order = [scheduler.next_step().prefill for _ in range(2)]

    assert [chunk.row.id for chunk in order if chunk] == ["long", "short"]


def test_a_freed_slot_goes_to_the_one_who_waited_longest() -> None:
    scheduler = Scheduler(slots=1, queue=2)
    for id in ("a", "b", "c"):
        scheduler.add(id, [1])
    scheduler.next_step()

    scheduler.remove("a")
    chunk = scheduler.next_step().prefill

    assert chunk is not None
    assert chunk.row.id == "b"


def test_a_full_queue_and_an_empty_prompt_are_refused() -> None:
    scheduler = Scheduler(slots=1, queue=0)
    with pytest.raises(Refused):
        scheduler.add("empty", [])
    scheduler.add("a", [1])

    with pytest.raises(Refused):
        scheduler.add("b", [1])


class SlotAccounting(RuleBasedStateMachine):
    """However requests come, advance and go, no slot is lost or given out twice."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(slots=3, queue=2, chunk_tokens=2)
        self.ids: list[str] = []
        self.added = 0

    @precondition(lambda self: len(self.ids) < 5)
    @rule(prompt=st.integers(1, 7))
    def add(self, prompt: int) -> None:
        self.added += 1
        self.ids.append(str(self.added))
        self.scheduler.add(self.ids[-1], [0] * prompt)

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(self.ids))
        self.ids.remove(id)
        assert self.scheduler.remove(id)
        assert not self.scheduler.remove(id)

    @rule()
    def step(self) -> None:
        step: Step = self.scheduler.next_step()
        slots = [row.slot for row in step.decode]
        assert len(set(slots)) == len(slots)
        assert all(len(row.tokens) > row.prompt_tokens for row in step.decode)
        for row in step.decode:
            row.tokens.append(1)
        if step.prefill is not None and step.prefill.is_last:
            step.prefill.row.tokens.append(1)

    @invariant()
    def slots_add_up(self) -> None:
        running = len(self.ids) - self.scheduler.waiting
        assert running + self.scheduler.free_slots == 3


TestSlotAccounting = SlotAccounting.TestCase
