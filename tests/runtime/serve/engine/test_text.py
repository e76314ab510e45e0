from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.serve.engine.text import Detokenizer, StopStrings


def decode_bytes(tokens: Sequence[int]) -> str:
    """A tokenizer whose tokens are bytes: every character of more than one is split."""
    return bytes(tokens).decode(errors="replace")


@given(st.text())
def test_pieces_joined_are_the_text(text: str) -> None:
    detokenizer = Detokenizer(decode_bytes)

    pieces = [detokenizer.add(byte) for byte in text.encode()]

    assert "".join(pieces) + detokenizer.flush() == text


@given(st.text(alphabet="aé漢😀", max_size=40))
def test_no_piece_holds_half_a_character(text: str) -> None:
    detokenizer = Detokenizer(decode_bytes)

    for byte in text.encode():
        assert "\ufffd" not in detokenizer.add(byte)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_text_come_out_as_the_decoder_shows_them(noise: bytes) -> None:
    detokenizer = Detokenizer(decode_bytes)

    pieces = [detokenizer.add(byte) for byte in noise]

    assert "".join(pieces) + detokenizer.flush() == decode_bytes(noise)


def test_an_endless_run_of_broken_bytes_does_not_hold_the_stream_back_for_ever() -> None:
    detokenizer = Detokenizer(decode_bytes)

    pieces = [detokenizer.add(0x80) for _ in range(500)]

    assert len("".join(pieces)) >= 499


STOPS = st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=3)


@given(text=st.text(alphabet="abc", max_size=30), stops=STOPS, data=st.data())
def test_the_cut_does_not_depend_on_how_the_text_is_split(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    def cut(pieces: Sequence[str]) -> str:
        stopper = StopStrings(stops)
        return "".join(stopper.add(piece) for piece in pieces) + stopper.flush()

    split = data.draw(st.integers(0, len(text)))

    assert cut(list(text)) == cut([text]) == cut([text[:split], text[split:]])


@pytest.mark.parametrize(
    ("pieces", "stops", "expected"),
    [
        (["the e", "nd is"], ["end"], "the "),
        (["a", "b", "c"], ["abc", "b"], "a"),
        (["xab", "c"], ["bc", "abc"], "x"),
        (["no", "thing"], ["end"], "nothing"),
        (["en", "en", "d"], ["end"], "en"),
    ],
)
def test_the_stop_string_that_is_complete_first_ends_the_text(
    pieces: list[str], stops: list[str], expected: str
) -> None:
    stopper = StopStrings(stops)

    given_out = "".join(stopper.add(piece) for piece in pieces) + stopper.flush()

    assert given_out == expected


def test_what_could_begin_a_stop_string_is_held_back() -> None:
    stopper = StopStrings(["END"])

    assert stopper.add("abE") == "ab"
    assert stopper.add("N") == ""
    assert stopper.add("!") == "EN!"
