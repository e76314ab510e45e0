"""Which text is trained on: a folder, a file, or the standard library's sources.

A file is for training or for validation by the hash of its name, so that a file added later moves
no other. Files that are not UTF-8 are left out. All is held in memory: TEXT_BYTES_MAX bounds it.
"""

import hashlib
import io
import sysconfig
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import Corrupt, Refused
from runtime.limits import TEXT_BYTES_MAX
from runtime.node_spec import STORED_TEXTS
from runtime.objects import Store
from runtime.text_files import text_files

PYTHON_STDLIB = "python-stdlib"
STDLIB_BYTES_MAX = 16 << 20
NOT_SOURCE = frozenset(
    ("site-packages", "dist-packages", "test", "tests", "idlelib", "idle_test", "__pycache__")
)
VALIDATION_OF = 24  # one name in so many: about 4 %
LINES_VALIDATION_OF = 20  # of the lines of a single file: the last 5 %


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A file's text, by its path below the folder."""

    name: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """Documents in the order of their names."""

    train: tuple[Document, ...]
    validation: tuple[Document, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over the names, the texts, and which side each is on."""
        total = hashlib.sha256()
        for side, documents in ((b"t", self.train), (b"v", self.validation)):
            for document in documents:
                for part in (side, _name_bytes(document.name), document.text.encode()):
                    total.update(len(part).to_bytes(8, "little") + part)
        return total.hexdigest()


def open_corpus(data: str, store: Store) -> Corpus:
    """What the spec names, on the machine or in the store of data; raises AtollError."""
    if not data.startswith(STORED_TEXTS):
        return read_corpus(data)
    documents = list(_stored(data, store))
    if not documents:
        raise Refused(f"training.data: found no UTF-8 text in {store.url}/{data}")
    return split(documents)


def read_corpus(data: str) -> Corpus:
    """Read from this machine; raises Refused if there is no text in it, or too much."""
    if data == PYTHON_STDLIB:
        root = Path(sysconfig.get_path("stdlib"))
        documents = _bounded(_documents(root, _sources(root)), STDLIB_BYTES_MAX)
    else:
        root = Path(data).expanduser()
        documents = list(_documents(root if root.is_dir() else root.parent, text_files(root)))
        size = sum(len(document.text) for document in documents)
        if size > TEXT_BYTES_MAX:
            raise Refused(
                f"training.data: found {size} characters in {root}; allowed {TEXT_BYTES_MAX}; "
                "name a smaller folder"
            )
    if not documents:
        raise Refused(
            f"training.data: found no readable text in {root}; allowed a folder or file of UTF-8 "
            f"text, or {PYTHON_STDLIB}; correct the path or its rights"
        )
    return split(documents)


def _stored(key: str, store: Store) -> Iterator[Document]:
    archive = store.get(key)
    found = hashlib.sha256(archive).hexdigest()
    if found != key.removeprefix(STORED_TEXTS):
        raise Corrupt(f"{store.url}/{key}: found SHA-256 {found}")
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for member in members:
            file = members.extractfile(member)
            document = None if file is None else _document(member.name, file.read())
            if document is not None:
                yield document


def split(documents: list[Document]) -> Corpus:
    """Pure: train and validation, neither of them empty if there are two lines of text."""
    documents = sorted(documents, key=lambda document: document.name)
    if len(documents) == 1:
        return _split_lines(documents[0])
    chosen = {d.name for d in documents if _name_hash(d.name) % VALIDATION_OF == 0}
    if not chosen or len(chosen) == len(documents):
        chosen = {min(documents, key=lambda d: _name_hash(d.name)).name}
    return Corpus(
        train=tuple(d for d in documents if d.name not in chosen),
        validation=tuple(d for d in documents if d.name in chosen),
    )


def _split_lines(document: Document) -> Corpus:
    lines = document.text.splitlines(keepends=True)
    at = len(lines) - max(1, len(lines) // LINES_VALIDATION_OF)
    if at < 1:
        raise Refused(
            f"training.data: found one line in {document.name}; allowed at least two, one to "
            "train on and one to validate with"
        )
    head = Document(name=document.name, text="".join(lines[:at]))
    tail = Document(name=document.name, text="".join(lines[at:]))
    return Corpus(train=(head,), validation=(tail,))


def _name_hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(_name_bytes(name)).digest()[:8], "little")


def _name_bytes(name: str) -> bytes:
    """As the folder holds it: a file's name need not be UTF-8 (PEP 383)."""
    return name.encode(errors="surrogateescape")


def _bounded(documents: Iterator[Document], bytes_max: int) -> list[Document]:
    """As many as fit, by the hash of their names: a fair sample of all."""
    kept: list[Document] = []
    left = bytes_max
    for document in sorted(documents, key=lambda d: _name_hash(d.name)):
        left -= len(document.text)
        if left < 0:
            break
        kept.append(document)
    return kept


def _sources(root: Path) -> Iterator[Path]:
    for path in root.rglob("*.py"):
        if not NOT_SOURCE.intersection(path.relative_to(root).parts):
            yield path


def _documents(root: Path, paths: Iterator[Path]) -> Iterator[Document]:
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError:
            continue
        document = _document(path.relative_to(root).as_posix(), content)
        if document is not None:
            yield document


def _document(name: str, content: bytes) -> Document | None:
    """None: it is no text."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return Document(name=name, text=text) if text and "\0" not in text else None
