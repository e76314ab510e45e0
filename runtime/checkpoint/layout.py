"""Where each tensor lies in which safetensors file, without the tensors. Pure.

A file is 8 bytes of header length (little-endian), the header as JSON, padded by blanks, and the
tensors' bytes, in one row without holes.
"""

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from runtime.packing import packed

ALIGN_BYTES = 64  # the first tensor begins at a multiple: copies of aligned rows are fastest


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A tensor, as its file names it."""

    name: str
    dtype: str  # as safetensors spells it: F32, BF16, …
    shape: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardLayout:
    """A file: its first bytes, and where each tensor begins in it."""

    head: bytes
    starts: dict[str, int]
    size_bytes: int


def lay_out(entries: Iterable[Entry], shard_bytes: int) -> tuple[ShardLayout, ...]:
    """Files of at most `shard_bytes` of tensors each, a larger tensor alone in its own."""
    parts = packed(entries, lambda entry: entry.size_bytes, shard_bytes)
    return tuple(_shard(part) for part in parts)


def _shard(entries: list[Entry]) -> ShardLayout:
    header: dict[str, object] = {}
    offsets: dict[str, int] = {}
    end = 0
    # Wide types first, so that each tensor is aligned to its own elements.
    for entry in sorted(entries, key=lambda entry: -_align(entry)):
        offsets[entry.name], start, end = end, end, end + entry.size_bytes
        header[entry.name] = {
            "dtype": entry.dtype,
            "shape": entry.shape,
            "data_offsets": (start, end),
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGN_BYTES)
    head = struct.pack("<Q", len(text)) + text
    starts = {name: len(head) + offset for name, offset in offsets.items()}
    return ShardLayout(head=head, starts=starts, size_bytes=len(head) + end)


def _align(entry: Entry) -> int:
    """Bytes of one element; of a tensor without elements, none."""
    count = 1
    for length in entry.shape:
        count *= length
    return entry.size_bytes // count if count else 0
