"""Texts that go to the store of data: packed alike on every machine, and read as a folder is."""

from pathlib import Path

import pytest

from infra import bundle
from infra.bundle import build_texts
from infra.clouds import look
from infra.plan.spec import ClusterSpec, StackSpec, TrainingSpec
from runtime.errors import Corrupt, Missing, Refused
from runtime.node_spec import STORED_TEXTS
from runtime.objects import file_url, open_store
from runtime.train.text import open_corpus, read_corpus


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Text, and what is none."""
    root = tmp_path / "texts"
    (root / "deep" / ".git").mkdir(parents=True)
    (root / "a.txt").write_text("one\ntwo\n")
    (root / "deep" / ("ä" * 120 + ".md")).write_text("three\n")
    (root / "deep" / ".git" / "HEAD").write_text("hidden")
    (root / "picture").write_bytes(b"\xff\xfe\0")
    return root


def test_what_nodes_read_from_the_store_is_what_the_folder_holds(
    folder: Path, tmp_path: Path
) -> None:
    store = open_store(file_url(tmp_path / "data"))
    packed = build_texts(folder)
    key = f"{STORED_TEXTS}{packed.sha256}"
    store.put(key, packed.data)

    assert open_corpus(key, store).digest == read_corpus(str(folder)).digest
    assert open_corpus(str(folder), store).digest == read_corpus(str(folder)).digest


def test_the_same_texts_are_the_same_archive(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file():
            copy = other / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())

    assert build_texts(folder) == build_texts(other)
    (other / "a.txt").write_text("one\n")
    assert build_texts(folder) != build_texts(other)


def test_a_single_file_is_packed_by_its_name(folder: Path, tmp_path: Path) -> None:
    store = open_store(file_url(tmp_path / "data"))
    packed = build_texts(folder / "a.txt")
    store.put(f"{STORED_TEXTS}{packed.sha256}", packed.data)

    corpus = open_corpus(f"{STORED_TEXTS}{packed.sha256}", store)

    assert corpus.digest == read_corpus(str(folder / "a.txt")).digest


def test_an_archive_that_is_another_is_refused(folder: Path, tmp_path: Path) -> None:
    store = open_store(file_url(tmp_path / "data"))
    key = f"{STORED_TEXTS}{build_texts(folder).sha256}"
    with pytest.raises(Missing):
        open_corpus(key, store)
    store.put(key, build_texts(folder / "a.txt").data)

    with pytest.raises(Corrupt, match="found SHA-256"):
        open_corpus(key, store)


def test_more_than_nodes_take_is_refused_before_it_is_sent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "TEXT_BYTES_MAX", 10)

    with pytest.raises(Refused, match="allowed 10; name a smaller folder"):
        build_texts(folder)


def test_a_folder_of_a_rented_stack_is_named_by_its_digest(folder: Path) -> None:
    spec = StackSpec(cluster=ClusterSpec(cloud="aws"), training=TrainingSpec(data=str(folder)))

    facts = look(spec)

    assert facts.data == f"{STORED_TEXTS}{build_texts(folder).sha256}"
    assert facts.texts == str(folder)


def test_a_folder_of_a_rented_stack_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    spec = StackSpec(
        cluster=ClusterSpec(cloud="aws"), training=TrainingSpec(data=str(tmp_path / "no"))
    )

    assert "No such file" in str(look(spec).data_fault)
