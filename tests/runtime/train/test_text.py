"""What is trained on and what is held out, from real folders and files."""

import os
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import text_files
from runtime.errors import Refused
from runtime.train import text as module
from runtime.train.text import PYTHON_STDLIB, VALIDATION_OF, Corpus, Document, read_corpus, split

MANY = 8 * VALIDATION_OF  # files: some are sure to be held out by their names

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
documents = st.lists(
    st.builds(Document, name=names, text=st.just("text\n")),
    min_size=2,
    max_size=60,
    unique_by=lambda document: document.name,
)


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Files by their path in the folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def texts(corpus: Corpus) -> dict[str, str]:
    """Of both sides."""
    return {d.name: d.text for d in (*corpus.train, *corpus.validation)}


def sides(corpus: Corpus) -> dict[str, str]:
    """The side that each name is on."""
    train = dict.fromkeys((d.name for d in corpus.train), "train")
    return train | dict.fromkeys((d.name for d in corpus.validation), "validation")


def test_all_text_of_a_folder_is_read_and_nothing_else(tmp_path: Path) -> None:
    write(
        tmp_path / "data",
        {
            "a.txt": "first\n",
            "below/b.md": "Zürich \U0001f600\n",
            "below/ends-without-newline": "x",
            "empty.txt": "",
            "latin1.txt": "Zürich".encode("latin-1"),
            "image.bin": b"GIF\0text",
            ".hidden": "secret\n",
            ".git/config": "[core]\n",
            "below/.cache/c.txt": "cached\n",
        },
    )
    (tmp_path / "data" / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "data" / "linked.txt").symlink_to(tmp_path / "data" / "a.txt")

    corpus = read_corpus(str(tmp_path / "data"))

    assert texts(corpus) == {
        "a.txt": "first\n",
        "linked.txt": "first\n",
        "below/b.md": "Zürich \U0001f600\n",
        "below/ends-without-newline": "x",
    }
    assert corpus.train
    assert corpus.validation


def test_a_file_that_can_not_be_read_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": "a\n", "b.txt": "b\n"})
    # A file by its kind that answers no read, not even of the superuser.
    (tmp_path / "c.txt").symlink_to("/proc/self/mem")
    assert (tmp_path / "c.txt").is_file()

    assert set(texts(read_corpus(str(tmp_path)))) == {"a.txt", "b.txt"}


def test_a_name_that_is_no_text_does_no_harm(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": "a\n"})
    (tmp_path / os.fsdecode(b"Z\xfcrich.txt")).write_text("b\n")

    corpus = read_corpus(str(tmp_path))

    assert sorted(texts(corpus).values()) == ["a\n", "b\n"]
    assert len(corpus.digest) == 64


def test_of_a_single_file_the_last_lines_are_held_out(tmp_path: Path) -> None:
    lines = [f"line {number}\r\n" for number in range(100)]
    write(tmp_path, {"book.txt": "".join(lines), "other.txt": "not asked for\n"})

    corpus = read_corpus(str(tmp_path / "book.txt"))

    assert [d.text for d in corpus.train] == ["".join(lines[:95])]
    assert [d.text for d in corpus.validation] == ["".join(lines[95:])]


@pytest.mark.parametrize("lines", [2, 3, 19, 20, 39, 40])
def test_neither_side_of_a_short_file_is_empty(tmp_path: Path, lines: int) -> None:
    write(tmp_path, {"short.txt": "a line\n" * lines})

    corpus = read_corpus(str(tmp_path / "short.txt"))

    kept = [sum(len(d.text) for d in side) for side in (corpus.train, corpus.validation)]
    assert min(kept) > 0
    assert sum(kept) == 7 * lines


def test_one_line_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"one.txt": "a single line, however long" * 100})

    with pytest.raises(Refused, match=r"found one line in one\.txt; allowed at least two"):
        read_corpus(str(tmp_path))


@pytest.mark.parametrize("found", ["nothing", "nowhere", "binary", "empty"])
def test_a_place_without_text_is_refused_with_its_path(tmp_path: Path, found: str) -> None:
    (tmp_path / "nothing").mkdir()
    write(tmp_path, {"binary/a": b"\0\1\2", "empty/a": ""})

    with pytest.raises(Refused, match=f"found no readable text in .*{found}"):
        read_corpus(str(tmp_path / found))


def test_too_much_text_is_refused_before_it_is_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"a": "x" * 600, "b": "x" * 401})
    monkeypatch.setattr(module, "TEXT_BYTES_MAX", 1000)

    with pytest.raises(Refused, match=r"found 1001 characters in .*; allowed 1000"):
        read_corpus(str(tmp_path))
    monkeypatch.setattr(module, "TEXT_BYTES_MAX", 1001)

    assert len(texts(read_corpus(str(tmp_path)))) == 2


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {f"{number}.txt": "x\n" for number in range(11)})
    monkeypatch.setattr(text_files, "FILES_MAX", 10)

    with pytest.raises(Refused, match="over 10 entries"):
        read_corpus(str(tmp_path))


def test_home_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(write(tmp_path, {"data/a": "a\n", "data/b": "b\n"})))

    assert set(texts(read_corpus("~/data"))) == {"a", "b"}


def test_the_standard_library_is_a_fair_sample_without_tests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STDLIB_BYTES_MAX", 4 << 20)
    root = Path(sysconfig.get_path("stdlib"))

    corpus = read_corpus(PYTHON_STDLIB)

    found = texts(corpus)
    assert (2 << 20) < sum(map(len, found.values())) <= 4 << 20
    assert all((root / name).read_bytes() == text.encode() for name, text in found.items())
    assert not any({"test", "tests", "site-packages"} & set(Path(n).parts) for n in found)
    assert len({name[0] for name in found}) > 10  # not the first megabytes by name
    assert corpus.validation


@given(documents=documents)
def test_every_document_is_on_one_side_and_neither_side_is_empty(
    documents: list[Document],
) -> None:
    corpus = split(documents)

    assert sorted(texts(corpus)) == sorted(document.name for document in documents)
    assert len(corpus.train) + len(corpus.validation) == len(documents)
    assert corpus.train
    assert corpus.validation


@given(documents=documents, data=st.data())
def test_neither_the_order_of_files_nor_their_text_changes_the_sides(
    documents: list[Document], data: st.DataObject
) -> None:
    other = [
        Document(name=document.name, text="another\n")
        for document in data.draw(st.permutations(documents))
    ]

    assert sides(split(other)) == sides(split(documents))


def test_a_file_that_is_added_moves_no_other() -> None:
    def corpus(files: int) -> Corpus:
        return split([Document(name=f"part-{n}.txt", text="x") for n in range(files)])

    before = sides(corpus(MANY))
    for more in range(1, VALIDATION_OF):
        after = sides(corpus(MANY + more))

        assert after.items() >= before.items()

    held_out = list(before.values()).count("validation")
    assert MANY / VALIDATION_OF / 3 < held_out < MANY / VALIDATION_OF * 3


@given(documents=documents, data=st.data())
def test_the_digest_tells_every_change_from_no_change(
    documents: list[Document], data: st.DataObject
) -> None:
    corpus = split(documents)
    same = split(data.draw(st.permutations(documents)))
    swapped = Corpus(train=corpus.validation, validation=corpus.train)
    moved = Corpus(train=(*corpus.train, corpus.validation[0]), validation=corpus.validation[1:])
    first = corpus.train[0]
    changed = Corpus(
        train=(Document(name=first.name, text=first.text + "!"), *corpus.train[1:]),
        validation=corpus.validation,
    )
    shifted = Corpus(
        train=(Document(name=first.name + "te", text="xt\n"), *corpus.train[1:]),
        validation=corpus.validation,
    )

    assert same.digest == corpus.digest
    assert len({c.digest for c in (corpus, swapped, moved, changed, shifted)}) == 5
