"""Lines before they are sent: cut to fit, bounded, and put into batches that AWS takes."""

from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.clouds.aws_logs import (
    BATCH_BYTES_MAX,
    BATCH_EVENTS_MAX,
    BATCH_SPAN_MS_MAX,
    EVENT_OVERHEAD_BYTES,
    batches,
)
from runtime.clouds.log_lines import CUT, LogLine, Waiting, log_line
from runtime.limits import LOG_LINE_BYTES_MAX

DAY_MS = 24 * 3600 * 1000


@st.composite
def runs(draw: st.DrawFn) -> list[LogLine]:
    """Lines of one size at even distances: enough of them to meet any limit."""
    start = draw(st.integers(0, 3 * DAY_MS))
    step = draw(st.sampled_from([-1, 0, 1, 60_000, DAY_MS // 2, DAY_MS]))
    size = draw(st.sampled_from([1, 79, 4096, LOG_LINE_BYTES_MAX]))
    count = draw(st.integers(0, 12_000 if size < 4096 else 600))
    return [
        LogLine(at_ms=start + step * index, text=str(index), size_bytes=size)
        for index in range(count)
    ]


def fits(batch: list[LogLine]) -> bool:
    """As AWS counts."""
    return (
        len(batch) <= BATCH_EVENTS_MAX
        and sum(line.size_bytes + EVENT_OVERHEAD_BYTES for line in batch) <= BATCH_BYTES_MAX
        and batch[-1].at_ms - batch[0].at_ms < BATCH_SPAN_MS_MAX
    )


@settings(max_examples=40)
@given(st.lists(runs(), max_size=3))
def test_batches_hold_all_lines_by_time_and_no_batch_could_be_larger(
    parts: list[list[LogLine]],
) -> None:
    lines = [line for part in parts for line in part]

    cut = batches(lines)

    assert [line for batch in cut for line in batch] == sorted(lines, key=lambda line: line.at_ms)
    assert all(batch and fits(batch) for batch in cut)
    assert not any(fits([*batch, following[0]]) for batch, following in pairwise(cut))


@given(st.text(st.characters()) | st.text("aé\U0001f30a", min_size=1).map(lambda t: t * 40_000))
def test_any_text_becomes_a_line_that_can_be_sent(text: str) -> None:
    line = log_line(7, text)

    assert 0 < line.size_bytes == len(line.text.encode()) <= LOG_LINE_BYTES_MAX
    whole = text.encode("utf-8", "replace").decode() or " "
    if line.text != whole:
        assert line.text.endswith(CUT)
        assert whole.startswith(line.text.removesuffix(CUT))
        assert line.size_bytes > LOG_LINE_BYTES_MAX - 4


@given(
    st.lists(st.integers(1, 40) | st.just(0), max_size=60),
    st.integers(1, 12),
    st.integers(40, 200),
)
def test_of_too_many_lines_the_oldest_go_and_none_is_lost_uncounted(
    sizes: list[int], lines_max: int, bytes_max: int
) -> None:
    """A size of 0 stands for a try to send that fails."""
    waiting, number = Waiting(lines_max, bytes_max), 0
    for size in sizes:
        if size:
            waiting.put(LogLine(at_ms=number, text="x", size_bytes=size))
            number += 1
        else:
            waiting.give_back(waiting.take())

    dropped, kept = waiting.take_dropped(), waiting.take()

    assert [line.at_ms for line in kept] == list(range(dropped, number))
    assert len(kept) <= lines_max
    assert sum(line.size_bytes for line in kept) <= bytes_max
    assert waiting.take_dropped() == len(waiting) == 0


def test_what_is_given_back_goes_before_what_came_meanwhile() -> None:
    waiting = Waiting(3)
    first = [log_line(at, str(at)) for at in range(3)]
    for line in first:
        waiting.put(line)
    taken = waiting.take()
    waiting.put(log_line(3, "3"))

    waiting.give_back(taken)

    assert Counter(line.text for line in waiting.take()) == Counter("123")
    assert waiting.take_dropped() == 1
