"""A Llama-shaped decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU, tied ends.

Parameters bear the names of Hugging Face's LlamaForCausalLM, so that an export is a plain state
dict. Attention is passed in: training wants a causal mask, serving brings its own cache.
Not covered: biases, dropout, rope scaling, untied output embeddings.
"""

# B batch, T tokens, D width of the stream or of a head, H heads, G key/value heads, V vocabulary
# ruff: noqa: N803, N806

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention, silu

INIT_STD = 0.02

# (layer, q_BHTD, k_BGTD, v_BGTD) -> out_BHTD
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderShape:
    """All that decides the sizes of the parameters, and the two constants of the arithmetic."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    context: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.width // self.heads


def causal_attention(_layer: int, q_BHTD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor) -> Tensor:
    """Every token sees itself and those before it."""
    is_grouped = q_BHTD.shape[1] != k_BGTD.shape[1]
    return scaled_dot_product_attention(
        q_BHTD, k_BGTD, v_BGTD, is_causal=True, enable_gqa=is_grouped
    )


class Decoder(nn.Module):
    """Tokens to logits of the next token at each position."""

    rotary_cos: Tensor  # TD
    rotary_sin: Tensor

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.model = _Trunk(shape)
        cos_TD, sin_TD = rotary_tables(shape)
        self.register_buffer("rotary_cos", cos_TD, persistent=False)
        self.register_buffer("rotary_sin", sin_TD, persistent=False)

    def forward(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        attend: Attend = causal_attention,
    ) -> Tensor:
        """Logits BTV; positions count from 0 unless given."""
        if positions_BT is None:
            T = tokens_BT.shape[1]
            cos, sin = self.rotary_cos[:T], self.rotary_sin[:T]
        else:
            # One axis more, so that a row's positions meet all its heads.
            cos, sin = (
                self.rotary_cos[positions_BT][:, None],
                self.rotary_sin[positions_BT][:, None],
            )
        x_BTD = self.model.embed_tokens(tokens_BT)
        for layer in self.model.layers:
            x_BTD = layer(x_BTD, cos, sin, attend)
        return linear(self.model.norm(x_BTD), self.model.embed_tokens.weight)

    def init(self, generator: torch.Generator) -> None:
        """Draw all weights anew: the same generator state, the same weights."""
        # What is added to the stream is smaller the deeper the net is (GPT-2, section 2.3).
        residual_std = INIT_STD / math.sqrt(2 * self.shape.layers)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.dim() == 1:
                    parameter.fill_(1.0)
                    continue
                is_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                std = residual_std if is_residual else INIT_STD
                parameter.normal_(std=std, generator=generator)


def rotary_tables(shape: DecoderShape) -> tuple[Tensor, Tensor]:
    """Cosines and sines TD for all positions of the context, in float32 as Llama has them."""
    pairs = torch.arange(0, shape.head_width, 2, dtype=torch.float32) / shape.head_width
    frequencies = 1.0 / (shape.rope_theta**pairs)
    angles = torch.outer(torch.arange(shape.context, dtype=torch.float32), frequencies)
    both_halves = torch.cat((angles, angles), dim=-1)
    return both_halves.cos(), both_halves.sin()


def rotate(x_BHTD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + D/2), as Hugging Face pairs them."""
    first, second = x_BHTD.chunk(2, dim=-1)
    return x_BHTD * cos + torch.cat((-second, first), dim=-1) * sin


class _Trunk(nn.Module):
    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(_Layer(shape, index) for index in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)


class _Layer(nn.Module):
    def __init__(self, shape: DecoderShape, index: int) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.self_attn = _Attention(shape, index)
        self.post_attention_layernorm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.mlp = _Mlp(shape)

    def forward(self, x_BTD: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), cos, sin, attend)
        mlp_BTD: Tensor = self.mlp(self.post_attention_layernorm(x_BTD))
        return x_BTD + mlp_BTD


class _Attention(nn.Module):
    def __init__(self, shape: DecoderShape, index: int) -> None:
        super().__init__()
        self.index = index
        self.head_width = shape.head_width
        kv_width = shape.kv_heads * shape.head_width
        self.q_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.k_proj = nn.Linear(shape.width, kv_width, bias=False)
        self.v_proj = nn.Linear(shape.width, kv_width, bias=False)
        self.o_proj = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x_BTD: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        q_BHTD = rotate(self._heads(self.q_proj(x_BTD)), cos, sin)
        k_BGTD = rotate(self._heads(self.k_proj(x_BTD)), cos, sin)
        v_BGTD = self._heads(self.v_proj(x_BTD))
        out_BHTD = attend(self.index, q_BHTD, k_BGTD, v_BGTD)
        out_BTD: Tensor = self.o_proj(out_BHTD.transpose(1, 2).flatten(2))
        return out_BTD

    def _heads(self, x_BTD: Tensor) -> Tensor:
        B, T, _ = x_BTD.shape
        return x_BTD.view(B, T, -1, self.head_width).transpose(1, 2)


class _Mlp(nn.Module):
    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down_proj = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        out_BTD: Tensor = self.down_proj(silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
        return out_BTD
