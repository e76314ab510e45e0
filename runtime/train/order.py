"""In which order samples are seen: a pure function of (seed, pass, index), so nothing is stored.

A keyed permutation by a Feistel network: any index is found without shuffling a list, hence no
kill, resume or change of size can repeat or skip a sample.
"""

import hashlib
from collections.abc import Iterable

ROUNDS = 4  # Luby and Rackoff 1988: four rounds of a keyed function look random from both sides
WALK_MAX = 1000  # a step leaves the domain with p < 3/4: never this many in a row


def sample_of(consumed: int, samples: int, seed: int) -> int:
    """The sample that comes after `consumed` others; passes follow each other without end."""
    in_pass = consumed % samples
    return permuted(in_pass, samples, key=_key(seed, consumed // samples))


def permuted(index: int, size: int, key: int) -> int:
    """Where `index` of `range(size)` goes; a bijection for every key."""
    assert 0 <= index < size, "an index of the pass"
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    for _ in range(WALK_MAX):
        index = _feistel(index, half_bits, key)
        if index < size:  # else walk on: the cycle comes back into the domain
            return index
    raise AssertionError("a permutation's cycle comes back")


def share(batch: int, rank: int, world_size: int) -> range:
    """Positions in the global batch that a rank computes; shares differ by one at most."""
    return range(batch * rank // world_size, batch * (rank + 1) // world_size)


def chunks(positions: Iterable[int], size: int) -> list[list[int]]:
    """Micro-batches: positions in groups of at most `size`."""
    whole = list(positions)
    return [whole[at : at + size] for at in range(0, len(whole), size)]


def _key(seed: int, number: int) -> int:
    digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def _feistel(value: int, half_bits: int, key: int) -> int:
    mask = (1 << half_bits) - 1
    left, right = value >> half_bits, value & mask
    for turn in range(ROUNDS):
        left, right = right, left ^ (_mix(right, key, turn) & mask)
    return left << half_bits | right


def _mix(value: int, key: int, turn: int) -> int:
    """SplitMix64 of all three."""
    word = (value + key + (turn + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return word ^ (word >> 31)
