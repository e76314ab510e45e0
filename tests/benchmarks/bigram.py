"""What a run must beat: an interpolated bigram over the same tokens.

Absolute discounting, the discount chosen on validation, counted on all training tokens.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DISCOUNTS = tuple(step / 20 for step in range(1, 20))


@dataclass(frozen=True, kw_only=True, slots=True)
class Bigram:
    """The best of the discounts."""

    discount: float
    bits_per_byte: float


def bigram(
    train: NDArray[np.uint16],
    validation: NDArray[np.uint16],
    token_bytes: NDArray[np.int64],
) -> Bigram:
    """Bits per byte of validation text, its first token apart."""
    vocabulary = len(token_bytes)
    unigram = np.bincount(train, minlength=vocabulary) + 1.0  # one more: nothing is impossible
    unigram /= unigram.sum()
    counts = pair_counts(train, vocabulary)
    followed = counts.sum(axis=1)
    kinds = (counts > 0).sum(axis=1)
    before, after = validation[:-1].astype(np.int64), validation[1:].astype(np.int64)
    text_bytes = int(token_bytes[after].sum())
    found = []
    for discount in DISCOUNTS:
        safe = np.maximum(followed[before], 1)
        seen = np.maximum(counts[before, after] - discount, 0) / safe
        left = np.where(followed[before] > 0, discount * kinds[before] / safe, 1.0)
        bits = -np.log2(seen + left * unigram[after]).sum()
        found.append(Bigram(discount=discount, bits_per_byte=float(bits) / text_bytes))
    return min(found, key=lambda one: one.bits_per_byte)


def pair_counts(tokens: NDArray[np.uint16], vocabulary: int) -> NDArray[np.int64]:
    """How often each token follows each other."""
    assert vocabulary <= 1 << 13, "a dense table of pairs must fit into memory"
    pairs = tokens[:-1].astype(np.int64) * vocabulary + tokens[1:]
    return np.bincount(pairs, minlength=vocabulary**2).reshape(vocabulary, vocabulary)


def uniform_bits_per_byte(vocabulary: int, bytes_per_token: float) -> float:
    """Of one who knows nothing: to see that the scale is right."""
    return math.log2(vocabulary) / bytes_per_token
