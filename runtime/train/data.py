"""The data as tokens: made once, kept in the data store, mapped into memory by every worker.

`<digest>/` holds manifest.json, put if absent and last, and below an attempt's name what it lists:
tokenizer.json and shards of little-endian uint16. The digest is of the text and the vocabulary.
Members that find no manifest prepare at the same time, each under its own name; one manifest wins.
So nobody waits for a peer that may die, at the cost of work done side by side.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from tokenizers import Tokenizer
from torch import Tensor

from runtime.errors import Corrupt, Missing, Refused
from runtime.model import tokenizer as bpe
from runtime.objects import Store
from runtime.train.text import Corpus, Document

FORMAT = 1  # part of the digest: another way to prepare gives another name
SHARD_TOKENS = 16 << 20
DTYPE = np.dtype("<u2")
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
DOCUMENTS_AT_ONCE = 256  # texts tokenized in one call: bounds the memory


class Shard(BaseModel):
    """A file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    sha256: str


class DataManifest(BaseModel):
    """What the prepared data is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    vocabulary: int
    tokenizer: Shard
    token_bytes: tuple[int, ...]  # length of each token in UTF-8; 0 for the end of a document
    train: tuple[Shard, ...]
    validation: tuple[Shard, ...]


@dataclass(frozen=True, slots=True)
class Samples:
    """One side's tokens, cut into sequences that overlap by the token to be guessed."""

    tokens: np.ndarray[tuple[int], np.dtype[np.uint16]]
    sequence_tokens: int

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.sequence_tokens

    def batch(self, samples: list[int]) -> tuple[Tensor, Tensor]:
        """Inputs and targets BT, int64."""
        length = self.sequence_tokens
        rows = [self.tokens[at * length : (at + 1) * length + 1] for at in samples]
        tokens = torch.from_numpy(np.stack(rows).astype(np.int64))
        return tokens[:, :-1], tokens[:, 1:]


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """Prepared data, opened."""

    manifest: DataManifest
    tokenizer: Tokenizer
    train: Samples
    validation: Samples
    token_bytes: Tensor  # V, int64


def data_digest(corpus: Corpus, vocabulary: int) -> str:
    """The name of the prepared data."""
    return hashlib.sha256(f"{FORMAT} {vocabulary} {corpus.digest}".encode()).hexdigest()


def prepare(store: Store, corpus: Corpus, vocabulary: int, attempt: str) -> str:
    """Put the tokens of a corpus into the store unless they are there; returns the digest.

    `attempt` is a name that nobody else uses.
    """
    digest = data_digest(corpus, vocabulary)
    if _read_manifest(store, digest) is not None:
        return digest
    prefix = f"{digest}/{attempt}"
    tokenizer = bpe.train((document.text for document in corpus.train), vocabulary)
    manifest = DataManifest(
        digest=digest,
        vocabulary=vocabulary,
        tokenizer=_put(store, f"{prefix}/{TOKENIZER}", tokenizer.to_str().encode()),
        token_bytes=tuple(_token_bytes(tokenizer, vocabulary)),
        train=tuple(_put_tokens(store, f"{prefix}/train", tokenizer, corpus.train)),
        validation=tuple(_put_tokens(store, f"{prefix}/validation", tokenizer, corpus.validation)),
    )
    content = manifest.model_dump_json().encode()
    if not store.put_if_absent(f"{digest}/{MANIFEST}", content):
        if store.get(f"{digest}/{MANIFEST}") == content:
            return digest  # our own, whose answer was lost
        for shard in (manifest.tokenizer, *manifest.train, *manifest.validation):
            store.delete(shard.key)
    return digest


def open_data(store: Store, digest: str, folder: Path, sequence_tokens: int) -> Data:
    """Bring prepared data to `folder`, verified, and map it; raises Missing, Corrupt or Refused."""
    manifest = _read_manifest(store, digest)
    if manifest is None:
        raise Missing(f"{store.url}/{digest}/{MANIFEST}: not there")
    folder = folder / digest
    folder.mkdir(parents=True, exist_ok=True)
    train = _open_side(store, manifest.train, folder / "train.bin")
    validation = _open_side(store, manifest.validation, folder / "validation.bin")
    for name, tokens in (("training", train), ("validation", validation)):
        if len(tokens) <= sequence_tokens:
            raise Refused(
                f"training.data: found {len(tokens)} tokens for {name}; allowed more than "
                f"sequence_tokens, {sequence_tokens}; add text or lower sequence_tokens"
            )
    return Data(
        manifest=manifest,
        tokenizer=Tokenizer.from_str(_get(store, manifest.tokenizer).decode()),
        train=Samples(train, sequence_tokens),
        validation=Samples(validation, sequence_tokens),
        token_bytes=torch.tensor(manifest.token_bytes),
    )


def _read_manifest(store: Store, digest: str) -> DataManifest | None:
    key = f"{digest}/{MANIFEST}"
    try:
        return DataManifest.model_validate_json(store.get(key))
    except Missing:
        return None
    except ValidationError as fault:
        raise Corrupt(f"{store.url}/{key}: {fault}") from fault


def _put(store: Store, key: str, content: bytes) -> Shard:
    store.put(key, content)
    return Shard(key=key, sha256=hashlib.sha256(content).hexdigest())


def _get(store: Store, shard: Shard) -> bytes:
    content = store.get(shard.key)
    if hashlib.sha256(content).hexdigest() != shard.sha256:
        raise Corrupt(f"{store.url}/{shard.key}: SHA-256 does not fit the manifest")
    return content


def _put_tokens(
    store: Store, prefix: str, tokenizer: Tokenizer, documents: tuple[Document, ...]
) -> Iterator[Shard]:
    tokens = _encode(tokenizer, documents)
    for number, at in enumerate(range(0, len(tokens), SHARD_TOKENS)):
        part = tokens[at : at + SHARD_TOKENS]
        yield _put(store, f"{prefix}-{number:05d}.bin", part.tobytes())


def _encode(
    tokenizer: Tokenizer, documents: tuple[Document, ...]
) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    """All documents in a row, an end token before each and after the last."""
    parts: list[np.ndarray[tuple[int], np.dtype[np.uint16]]] = []
    end = np.array([bpe.END_ID], dtype=DTYPE)
    for at in range(0, len(documents), DOCUMENTS_AT_ONCE):
        texts = [document.text for document in documents[at : at + DOCUMENTS_AT_ONCE]]
        for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
            parts += [end, np.array(encoding.ids, dtype=DTYPE)]
    return np.concatenate([*parts, end])


def _token_bytes(tokenizer: Tokenizer, vocabulary: int) -> Iterator[int]:
    """In byte-level BPE a token's written form has one character per byte."""
    for token in range(vocabulary):
        written = tokenizer.id_to_token(token)
        yield 0 if written is None or token == bpe.END_ID else len(written)


def _open_side(
    store: Store, shards: tuple[Shard, ...], path: Path
) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    """One local file per side; what an earlier epoch brought and noted as whole is kept."""
    note = path.with_suffix(".json")
    wanted = json.dumps([shard.model_dump() for shard in shards])
    if not (note.exists() and note.read_text() == wanted and path.exists()):
        note.unlink(missing_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as out:
            for shard in shards:
                out.write(_get(store, shard))
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
        note.write_text(wanted)
    return np.memmap(path, dtype=DTYPE, mode="r")
