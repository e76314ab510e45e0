"""Keys and values of the requests that have a slot.

One preallocated block per slot, as long as the context: simple, and memory is known at start. Does
not share prefixes between requests.
"""

# S slots, G key/value heads, C context, D head width, T new tokens, L tokens so far
# ruff: noqa: N803

import torch
from torch import Tensor


class SlotCache:
    """Per layer and slot: the keys and values of positions 0 to C."""

    def __init__(self, *, layers: int, slots: int, kv_heads: int, context: int, head: int) -> None:
        shape = (layers, slots, kv_heads, context, head)
        self._keys = torch.zeros(shape)
        self._values = torch.zeros(shape)

    @property
    def nbytes(self) -> int:
        """Memory of the cache."""
        return self._keys.nbytes + self._values.nbytes

    def extend(
        self,
        layer: int,
        slot: int,
        start: int,
        k_GTD: Tensor,
        v_GTD: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Put T tokens at `start`; returns keys and values GLD of all tokens up to their end."""
        end = start + k_GTD.shape[1]
        self._keys[layer, slot, :, start:end] = k_GTD
        self._values[layer, slot, :, start:end] = v_GTD
        return self._keys[layer, slot, :, :end], self._values[layer, slot, :, :end]
