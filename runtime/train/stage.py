"""A copy of the state in memory that another process reads: the state as it was at one step.

Memory files, one per shard, in the format of the store: made once, then each save costs one copy
and no allocation. Tensors of a device are copied the same way.
"""

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.checkpoint.layout import Entry, ShardLayout, lay_out
from runtime.train.state import SHARD_BYTES

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """What a stage was made for."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Shape":
        """Of these tensors."""
        return cls(
            tuple(
                Entry(
                    name=name,
                    dtype=DTYPES[tensor.dtype],
                    shape=tuple(tensor.shape),
                    size_bytes=tensor.nbytes,
                )
                for name, tensor in tensors.items()
            )
        )


class Stage:
    """Room for one checkpoint. Memory is taken when it is first used, not before."""

    def __init__(self, shape: Shape, shard_bytes: int = SHARD_BYTES) -> None:
        """Raises OSError if the system has no room for it."""
        self._layout = lay_out(shape.entries, shard_bytes)
        self.files: tuple[int, ...] = ()  # descriptors, for the process that reads
        self._views: dict[str, Tensor] = {}
        try:
            for shard in self._layout:
                file = os.memfd_create("atoll-checkpoint")
                self.files = (*self.files, file)
                os.truncate(file, shard.size_bytes)
        except OSError:
            self.close()
            raise

    def warm(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the memory now: to touch a page first costs ten times what a copy to it costs."""
        self._make_views(tensors)
        for view in self._views.values():
            view.zero_()

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy the tensors as they are now, which are those it was made for."""
        self._make_views(tensors)
        for name, tensor in tensors.items():
            self._views[name].copy_(tensor)  # from a device: returns when it is here

    def close(self) -> None:
        """Give the memory back, once no other process has it either."""
        self._views = {}
        for file in self.files:
            os.close(file)
        self.files = ()

    def _make_views(self, tensors: Mapping[str, Tensor]) -> None:
        if not self._views:
            self._views = {
                name: view
                for file, shard in zip(self.files, self._layout, strict=True)
                for name, view in _map(file, shard, tensors).items()
            }


def _map(file: int, shard: ShardLayout, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    memory = mmap.mmap(file, shard.size_bytes, flags=mmap.MAP_SHARED)
    memory[: len(shard.head)] = shard.head
    return {
        name: torch.frombuffer(
            memory, dtype=tensors[name].dtype, count=tensors[name].numel(), offset=start
        ).view(tensors[name].shape)
        if tensors[name].numel()
        else torch.empty_like(tensors[name], device="cpu")
        for name, start in shard.starts.items()
    }
