"""Choose the next token: greedy, or by temperature and top_p with counted randomness.

The random number of a token is a pure function of (seed, position in the sequence), so any replica
that serves the same model version continues a stream as the first one would have: there is no
generator whose state could get lost.
"""

# V vocabulary
# ruff: noqa: N803, N806

import struct
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

_MANTISSA_BITS = 53


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How one request chooses its tokens."""

    temperature: float = 1.0  # 0 is greedy
    top_p: float = 1.0
    seed: int = 0


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that belongs to this seed and position, on any machine."""
    digest = blake2b(struct.pack("<qQ", seed, position), digest_size=8, person=b"atoll.sampling")
    bits = int.from_bytes(digest.digest(), "little") >> (64 - _MANTISSA_BITS)
    return bits * 2.0**-_MANTISSA_BITS


def choose(logits_V: Tensor, sampling: Sampling, position: int) -> int:
    """The token for `position`. Ties go to the lower token id."""
    if sampling.temperature == 0:
        return int(logits_V.argmax())
    # float64: the running sum of 65,536 float32 probabilities may miss 1 by more than a token's.
    scaled_V = (logits_V.double() - logits_V.max()) / sampling.temperature
    probability_V = torch.softmax(scaled_V, dim=-1)
    if sampling.top_p >= 1:
        return _invert(probability_V, uniform(sampling.seed, position))
    sorted_V, ids_V = probability_V.sort(descending=True, stable=True)
    before_V = sorted_V.cumsum(-1) - sorted_V
    keep = max(1, int((before_V < sampling.top_p).sum()))
    return int(ids_V[_invert(sorted_V[:keep], uniform(sampling.seed, position))])


def _invert(weight_V: Tensor, u: float) -> int:
    """The index at which the running sum passes u times the whole."""
    sum_V = weight_V.cumsum(-1)
    index = int(torch.searchsorted(sum_V, sum_V[-1] * u, right=True))
    return min(index, len(weight_V) - 1)
