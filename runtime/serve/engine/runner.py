"""Run the decoder over slots: chunks of a prompt, or one token for each of several requests.

Attention is computed per sequence, over that sequence's own cache. The linear layers run over all
rows of a step at once, in float32: their last bit may depend on how many rows there are, so with
an unlucky near-tie a greedy choice could differ between batch sizes. The int8 engine, whose
integer sums are exact, will not have this limit. Prompts are computed alone, in fixed chunks.
"""

# B rows, T tokens, H heads, G key/value heads, D head width, L tokens so far, V vocabulary
# ruff: noqa: N803, N806

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from runtime.model.decoder import Decoder, DecoderShape
from runtime.serve.engine.cache import SlotCache


class Runner:
    """A decoder with its cache."""

    def __init__(self, decoder: Decoder, shape: DecoderShape, slots: int) -> None:
        self._decoder = decoder.eval().requires_grad_(False)
        self._cache = SlotCache(
            layers=shape.layers,
            slots=slots,
            kv_heads=shape.kv_heads,
            context=shape.context,
            head=shape.width // shape.heads,
        )

    @property
    def cache_bytes(self) -> int:
        """Memory that the keys and values take, used or not."""
        return self._cache.nbytes

    def prefill(self, slot: int, tokens: Sequence[int], start: int) -> Tensor:
        """Compute a chunk of a prompt that begins at position `start`; logits V after its end."""
        return self._forward([slot], [tokens], [start])[0]

    def decode(self, slots: Sequence[int], tokens: Sequence[int], at: Sequence[int]) -> Tensor:
        """Compute one token per slot at its position; logits BV."""
        return self._forward(slots, [[token] for token in tokens], at)

    @torch.inference_mode()
    def _forward(
        self, slots: Sequence[int], tokens: Sequence[Sequence[int]], starts: Sequence[int]
    ) -> Tensor:
        tokens_BT = torch.tensor(tokens)
        positions_BT = torch.tensor(starts)[:, None] + torch.arange(tokens_BT.shape[1])

        def attend(layer: int, q_BHTD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor) -> Tensor:
            rows = [
                self._attend_row(layer, slot, start, q_BHTD[row], k_BGTD[row], v_BGTD[row])
                for row, (slot, start) in enumerate(zip(slots, starts, strict=True))
            ]
            return torch.stack(rows)

        logits_BTV: Tensor = self._decoder(tokens_BT, positions_BT, attend)
        return logits_BTV[:, -1]

    def _attend_row(
        self, layer: int, slot: int, start: int, q_HTD: Tensor, k_GTD: Tensor, v_GTD: Tensor
    ) -> Tensor:
        k_GLD, v_GLD = self._cache.extend(layer, slot, start, k_GTD, v_GTD)
        new, so_far = q_HTD.shape[1], k_GLD.shape[1]
        # Token t of the chunk sees the cache and the chunk up to itself.
        mask_TL = None if new == 1 else torch.ones(new, so_far, dtype=torch.bool).tril(start)
        return scaled_dot_product_attention(
            q_HTD[None], k_GLD[None], v_GLD[None], attn_mask=mask_TL, enable_gqa=True
        )[0]
