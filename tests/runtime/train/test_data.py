"""Tokens made once: the same for all who make them, whole or refused, and the text is in them."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import Corrupt, Missing, Refused
from runtime.model.tokenizer import END_ID
from runtime.objects import Store, file_url, open_store
from runtime.train import data as module
from runtime.train.data import (
    Data,
    DataManifest,
    Samples,
    data_digest,
    open_data,
    prepare,
)
from runtime.train.text import Corpus, Document
from tests.doubles.store import HookedStore, Operation

VOCABULARY = 300
SEQUENCE_TOKENS = 16
WAIT_S = 30.0
EXAMPLES = 15  # each trains a tokenizer


def corpus_of(train: list[str], validation: list[str]) -> Corpus:
    """Documents with names of their own."""

    def documents(side: str, texts: list[str]) -> tuple[Document, ...]:
        return tuple(Document(name=f"{side}-{n}", text=text) for n, text in enumerate(texts))

    return Corpus(train=documents("t", train), validation=documents("v", validation))


CORPUS = corpus_of(
    [f"def add_{n}(a, b):\n    return a + b + {n}\n" * 5 for n in range(6)],
    ["def sub(a, b):\n    return a - b\n" * 5, "Zürich \U0001f600\n" * 5],
)


@pytest.fixture
def store(tmp_path: Path) -> HookedStore:
    return HookedStore(tmp_path / "data")


def state(store: Store) -> dict[str, datetime]:
    """What is there, and when it was written."""
    return {info.key: info.last_modified for info in store.list()}


def listed(manifest: DataManifest) -> set[str]:
    """Keys that a manifest names."""
    shards = (manifest.tokenizer, *manifest.train, *manifest.validation)
    return {shard.key for shard in shards}


def texts_in(samples: Samples, data: Data) -> list[str]:
    """The documents that the tokens stand for."""
    ids = samples.tokens.tolist()
    assert ids[0] == ids[-1] == END_ID
    ends = [at for at, token in enumerate(ids) if token == END_ID]
    return [
        data.tokenizer.decode(ids[begin + 1 : end], skip_special_tokens=False)
        for begin, end in pairwise(ends)
    ]


def test_data_that_is_prepared_is_not_prepared_again(store: Store) -> None:
    digest = prepare(store, CORPUS, VOCABULARY, "first")
    before = state(store)

    again = prepare(store, CORPUS, VOCABULARY, "second")

    assert again == digest == data_digest(CORPUS, VOCABULARY)
    assert state(store) == before


def test_another_text_or_vocabulary_is_other_data(store: Store) -> None:
    other = corpus_of(["another text\n"], ["and its end\n"])

    digests = {
        prepare(store, corpus, vocabulary, "attempt")
        for corpus in (CORPUS, other)
        for vocabulary in (VOCABULARY, VOCABULARY + 1)
    }

    assert len(digests) == 4
    assert {key.split("/")[0] for key in state(store)} == digests


def test_of_two_that_prepare_at_once_one_manifest_wins_and_the_rest_is_removed(
    store: HookedStore, tmp_path: Path
) -> None:
    together = threading.Barrier(2)

    def meet(operation: Operation, key: str) -> None:
        if operation == "put_if_absent" and key.endswith("manifest.json"):
            together.wait(WAIT_S)

    store.before = meet

    with ThreadPoolExecutor(2) as threads:
        made = threads.map(lambda name: prepare(store, CORPUS, VOCABULARY, name), ["one", "two"])
        digests = set(made)

    (digest,) = digests
    manifest = open_data(store, digest, tmp_path / "here", SEQUENCE_TOKENS).manifest
    assert set(state(store)) == {f"{digest}/manifest.json", *listed(manifest)}
    assert len({key.split("/")[1] for key in listed(manifest)}) == 1


class Forgetful(HookedStore):
    """Writes and says that something was there already, as after a retry of its own."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Written, and never told so."""
        super().put_if_absent(key, data)
        return False


def test_a_manifest_of_ones_own_whose_answer_was_lost_keeps_its_files(tmp_path: Path) -> None:
    store = Forgetful(tmp_path / "data")

    digest = prepare(store, CORPUS, VOCABULARY, "mine")

    data = open_data(store, digest, tmp_path / "here", SEQUENCE_TOKENS)
    assert {key.split("/")[1] for key in listed(data.manifest)} == {"mine"}


def test_half_of_a_preparation_is_no_data(store: HookedStore, tmp_path: Path) -> None:
    class Killed(Exception):
        """As if the process had ended here."""

    def kill(operation: Operation, key: str) -> None:
        if operation == "put" and "validation" in key:
            raise Killed

    store.before = kill
    with pytest.raises(Killed):
        prepare(store, CORPUS, VOCABULARY, "first")
    store.before = lambda *_: None
    digest = data_digest(CORPUS, VOCABULARY)
    with pytest.raises(Missing, match=r"manifest\.json"):
        open_data(store, digest, tmp_path / "here", SEQUENCE_TOKENS)

    assert prepare(store, CORPUS, VOCABULARY, "second") == digest

    manifest = open_data(store, digest, tmp_path / "here", SEQUENCE_TOKENS).manifest
    assert {key.split("/")[1] for key in listed(manifest)} == {"second"}


# Any text but what the corpus leaves out: empty documents and NUL.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@settings(max_examples=EXAMPLES)
@given(train=st.lists(texts, min_size=1, max_size=5), validation=st.lists(texts, min_size=1))
def test_the_text_can_be_read_back_from_the_tokens_and_weighs_what_it_weighed(
    train: list[str], validation: list[str]
) -> None:
    with TemporaryDirectory() as folder:
        store = open_store(file_url(Path(folder) / "data"))
        digest = prepare(store, corpus_of(train, validation), VOCABULARY, "attempt")

        data = open_data(store, digest, Path(folder) / "here", sequence_tokens=1)

        for samples, side in ((data.train, train), (data.validation, validation)):
            assert texts_in(samples, data) == side
            tokens = torch.from_numpy(samples.tokens.astype(np.int64))
            weight_bytes = int(data.token_bytes[tokens].sum())
            assert weight_bytes == sum(len(text.encode()) for text in side)


def test_shards_and_batches_of_documents_make_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tokens(name: str) -> Iterator[list[int]]:
        store = open_store(file_url(tmp_path / name))
        digest = prepare(store, CORPUS, VOCABULARY, name)
        data = open_data(store, digest, tmp_path / f"{name}-here", SEQUENCE_TOKENS)
        shards.append(len(data.manifest.train))
        for side in (data.train, data.validation):
            yield side.tokens.tolist()

    shards: list[int] = []
    in_one = list(tokens("one"))
    monkeypatch.setattr(module, "SHARD_TOKENS", 100)
    monkeypatch.setattr(module, "DOCUMENTS_AT_ONCE", 5)

    in_many = list(tokens("many"))

    assert in_many == in_one
    assert shards == [1, -(-len(in_one[0]) // 100)]


@pytest.fixture
def digest(store: HookedStore) -> str:
    """Of data that is there."""
    return prepare(store, CORPUS, VOCABULARY, "attempt")


@pytest.mark.parametrize("file", ["tokenizer.json", "train-00000.bin", "validation-00000.bin"])
def test_a_flipped_bit_is_never_trained_on(
    store: Store, digest: str, tmp_path: Path, file: str
) -> None:
    key = f"{digest}/attempt/{file}"
    content = bytearray(store.get(key))
    content[len(content) // 2] ^= 1
    store.put(key, bytes(content))

    with pytest.raises(Corrupt, match=f"{file}.*SHA-256"):
        open_data(store, digest, tmp_path / "here", SEQUENCE_TOKENS)


def test_a_manifest_that_makes_no_sense_is_corrupt_and_not_replaced(
    store: Store, digest: str, tmp_path: Path
) -> None:
    key = f"{digest}/manifest.json"
    half = store.get(key)[:100]
    store.put(key, half)

    with pytest.raises(Corrupt, match=r"manifest\.json"):
        open_data(store, digest, tmp_path / "here", SEQUENCE_TOKENS)
    with pytest.raises(Corrupt, match=r"manifest\.json"):
        prepare(store, CORPUS, VOCABULARY, "again")

    assert store.get(key) == half


def test_data_without_a_shard_is_missing(store: Store, digest: str, tmp_path: Path) -> None:
    store.delete(f"{digest}/attempt/train-00000.bin")

    with pytest.raises(Missing, match="train-00000"):
        open_data(store, digest, tmp_path / "here", SEQUENCE_TOKENS)


def test_text_that_gives_not_one_sequence_is_refused_with_what_would_do(
    store: Store, digest: str, tmp_path: Path
) -> None:
    data = open_data(store, digest, tmp_path / "here", SEQUENCE_TOKENS)
    shorter = len(data.validation.tokens)
    assert shorter < len(data.train.tokens)

    with pytest.raises(Refused, match=f"found {shorter} tokens for validation; allowed more than"):
        open_data(store, digest, tmp_path / "here", sequence_tokens=shorter)

    assert len(open_data(store, digest, tmp_path / "here", shorter - 1).validation) == 1


@dataclass(slots=True)
class Fetched:
    """Notes which shards are read."""

    keys: list[str]

    def __call__(self, operation: Operation, key: str) -> None:
        if operation == "get" and key.endswith(".bin"):
            self.keys.append(key.rpartition("/")[2])


def test_what_is_whole_on_this_machine_is_not_fetched_again(
    store: HookedStore, digest: str, tmp_path: Path
) -> None:
    fetched = Fetched([])
    store.before = fetched
    first = open_data(store, digest, tmp_path / "here", SEQUENCE_TOKENS)

    again = open_data(store, digest, tmp_path / "here", SEQUENCE_TOKENS)

    assert fetched.keys == ["train-00000.bin", "validation-00000.bin"]
    assert again.train.tokens.tolist() == first.train.tokens.tolist()


@pytest.mark.parametrize("left", ["half a file", "a partial file", "a note alone", "an older note"])
def test_what_a_death_left_on_this_machine_is_mended(
    store: HookedStore, digest: str, tmp_path: Path, left: str
) -> None:
    whole = open_data(store, digest, tmp_path / "here", SEQUENCE_TOKENS).train.tokens.tolist()
    path = tmp_path / "here" / digest / "train.bin"
    note = path.with_suffix(".json")
    match left:
        case "half a file":  # the note comes after the file
            path.write_bytes(path.read_bytes()[:100])
            note.unlink()
        case "a partial file":
            path.rename(path.with_suffix(".partial"))
            note.unlink()
        case "a note alone":
            path.unlink()
        case _:
            path.write_bytes(b"other tokens")
            note.write_text(note.read_text().replace("attempt", "older"))
    fetched = Fetched([])
    store.before = fetched

    mended = open_data(store, digest, tmp_path / "here", SEQUENCE_TOKENS)

    assert mended.train.tokens.tolist() == whole
    assert fetched.keys == ["train-00000.bin"]


def test_what_this_machine_fetched_is_whole_or_not_there(
    store: HookedStore, digest: str, tmp_path: Path
) -> None:
    key = f"{digest}/attempt/train-00000.bin"
    sound = store.get(key)
    store.put(key, sound[:-2])
    with pytest.raises(Corrupt):
        open_data(store, digest, tmp_path / "here", SEQUENCE_TOKENS)
    store.put(key, sound)

    data = open_data(store, digest, tmp_path / "here", SEQUENCE_TOKENS)

    assert data.train.tokens.tobytes() == sound


@given(tokens=st.integers(2, 200), sequence_tokens=st.integers(1, 60))
def test_sequences_follow_each_other_and_each_token_is_guessed_once(
    tokens: int, sequence_tokens: int
) -> None:
    samples = Samples(np.arange(tokens, dtype=np.uint16), sequence_tokens)
    guessed = range(1, len(samples) * sequence_tokens + 1)

    if len(samples) == 0:
        assert tokens <= sequence_tokens
        return
    inputs, targets = samples.batch(list(range(len(samples))))

    assert inputs.shape == targets.shape == (len(samples), sequence_tokens)
    assert inputs.dtype == torch.int64
    assert targets.flatten().tolist() == list(guessed)
    assert inputs.flatten().tolist() == [token - 1 for token in guessed]
    assert tokens - 1 - len(guessed) < sequence_tokens


def test_a_batch_is_the_samples_asked_for_in_their_order() -> None:
    samples = Samples(np.arange(100, dtype=np.uint16), 10)

    inputs, _ = samples.batch([7, 0, 7])

    assert inputs[:, 0].tolist() == [70, 0, 70]
