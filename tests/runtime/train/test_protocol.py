"""Lines between agent and worker: what is said is what is heard."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from runtime.lines import Line
from runtime.node_spec import StoreUrls
from runtime.train.protocol import (
    COMMANDS,
    EVENTS,
    Broken,
    Command,
    Done,
    Epoch,
    Event,
    Failed,
    Imported,
    Noted,
    Pause,
    Paused,
    Ready,
    Stepped,
    Work,
)
from tests.tiny import tiny_spec

texts = st.text(st.characters(exclude_categories=["Cs"]))
counts = st.integers(0, 1 << 40)
figures = st.floats(allow_nan=False, allow_infinity=False)

commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        Work,
        run=texts,
        train=st.builds(tiny_spec, texts),
        stores=st.builds(StoreUrls, **dict.fromkeys(StoreUrls.model_fields, texts)),
        node=texts,
        address=texts,
        folder=texts,
    ),
    st.builds(
        Epoch,
        number=counts,
        rank=counts,
        world_size=counts,
        rendezvous=texts,
        resume_steps=st.lists(counts).map(tuple),
    ),
    st.builds(Pause),
)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Imported),
    st.builds(Ready),
    st.builds(Stepped, epoch=counts, step=counts, loss=figures, tokens_per_s=figures),
    st.builds(Noted, why=texts),
    st.builds(Broken, epoch=counts, step=counts, why=texts),
    st.builds(Paused, epoch=counts, step=counts),
    st.builds(
        Done,
        epoch=counts,
        step=counts,
        folder=st.none() | texts,
        metrics=st.dictionaries(texts, figures),
    ),
    st.builds(Failed, why=texts),
)


def is_one_line(message: Line) -> bool:
    return message.encode().count(b"\n") == 1 and message.encode().endswith(b"\n")


@given(command=commands)
def test_every_command_survives_its_line(command: Command) -> None:
    assert is_one_line(command)
    assert COMMANDS.validate_json(command.encode()) == command


@given(event=events)
def test_every_event_survives_its_line(event: Event) -> None:
    assert is_one_line(event)
    assert EVENTS.validate_json(event.encode()) == event


@pytest.mark.parametrize(
    ("adapter", "lines"),
    [
        (COMMANDS, [b'{"op":"dance"}', b'{"op":"pause","now":true}', b"{}", b'{"event":"ready"}']),
        (
            EVENTS,
            [b'{"event":"dance"}', b'{"event":"ready","x":1}', b"", b"Killed", b'{"op":"pause"}'],
        ),
    ],
    ids=["command", "event"],
)
def test_a_line_that_is_none_is_refused(
    adapter: TypeAdapter[Command] | TypeAdapter[Event], lines: Sequence[bytes]
) -> None:
    for line in lines:
        with pytest.raises(ValidationError):
            adapter.validate_json(line)


@given(event=events, data=st.data())
def test_a_line_that_a_death_has_cut_is_refused(event: Event, data: st.DataObject) -> None:
    line = event.encode().rstrip()
    end = data.draw(st.integers(0, len(line) - 1))

    with pytest.raises(ValidationError):
        EVENTS.validate_json(line[:end])
