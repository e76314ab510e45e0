"""Files as safetensors itself reads them, laid out without it."""

import json
import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load

from runtime.checkpoint.layout import ALIGN_BYTES, Entry, lay_out

TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "U8": np.uint8}


@given(
    tensors=st.lists(
        st.tuples(st.sampled_from(sorted(TYPES)), st.lists(st.integers(0, 5), max_size=3)),
        min_size=1,
        max_size=12,
    ),
    shard_bytes=st.integers(1, 2000),
)
def test_what_is_written_by_the_layout_is_read_by_safetensors(
    tensors: list[tuple[str, list[int]]], shard_bytes: int
) -> None:
    draw = np.random.default_rng(0)
    arrays = {
        f"tensor.{number}": (draw.random(shape) * 100).astype(TYPES[dtype])
        for number, (dtype, shape) in enumerate(tensors)
    }
    entries = [
        Entry(
            name=f"tensor.{number}",
            dtype=dtype,
            shape=tuple(shape),
            size_bytes=arrays[f"tensor.{number}"].nbytes,
        )
        for number, (dtype, shape) in enumerate(tensors)
    ]

    found: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {}
    for shard in lay_out(entries, shard_bytes):
        content = bytearray(shard.size_bytes)
        content[: len(shard.head)] = shard.head
        for name, start in shard.starts.items():
            array = arrays[name]
            assert array.size == 0 or start % array.itemsize == 0
            content[start : start + array.nbytes] = array.tobytes()
        parts = load(bytes(content))
        assert len(parts) == 1 or sum(a.nbytes for a in parts.values()) <= shard_bytes
        found |= parts

    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


def test_the_tensors_of_a_file_begin_aligned() -> None:
    entry = Entry(name="a", dtype="F32", shape=(3,), size_bytes=12)

    (shard,) = lay_out([entry], 1 << 20)

    assert shard.starts["a"] == len(shard.head)
    assert len(shard.head) % ALIGN_BYTES == 0
    (length,) = struct.unpack("<Q", shard.head[:8])
    assert json.loads(shard.head[8 : 8 + length])["a"]["data_offsets"] == [0, 12]
