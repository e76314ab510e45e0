"""Byte-level BPE: nothing is unknown, and the end token is where all rely on it."""

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from runtime.model import tokenizer
from runtime.model.tokenizer import END, END_ID, VOCABULARY_MIN

TRAINED = tokenizer.train(["def add(a, b):\n    return a + b\n"] * 20, 300)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_as_it_was(text: str) -> None:
    assert TRAINED.decode(TRAINED.encode(text).ids, skip_special_tokens=False) == text


def test_the_end_token_has_id_0_and_is_one_token() -> None:
    assert TRAINED.token_to_id(END) == END_ID == 0
    assert TRAINED.encode(f"a{END}b").ids.count(END_ID) == 1


def test_the_vocabulary_is_as_large_as_asked_and_merges_are_learned() -> None:
    larger = tokenizer.train([f"def function_{n}(x): return {n} * x\n" for n in range(500)], 400)

    assert larger.get_vocab_size() == 400
    assert len(larger.encode("def function").ids) < len("def function")


def test_no_text_at_all_still_gives_all_bytes() -> None:
    bare = tokenizer.train([], VOCABULARY_MIN)

    assert bare.get_vocab_size() == VOCABULARY_MIN
    assert bare.decode(bare.encode("é☕\x00").ids) == "é☕\x00"


def test_the_written_tokenizer_reads_the_same() -> None:
    again = Tokenizer.from_str(TRAINED.to_str())

    assert again.encode("return a").ids == TRAINED.encode("return a").ids
