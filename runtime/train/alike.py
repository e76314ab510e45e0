"""Are all members' weights the same? Data-parallel members hold equal bits, or something is broken.

A bit that flips in one member's memory changes no loss at once, and spoils the model for good.
"""

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from runtime.train.strategy import Diverged, PeerLost, Strategy

ODD = 0x9E3779B97F4A7C15  # golden ratio: keeps tensors that swap places apart
WORD = (1 << 64) - 1


def fingerprint(tensors: Mapping[str, Tensor]) -> int:
    """64 bits, signed, over all bits of fp32 tensors. Any one flipped bit changes it."""
    total = 0
    for number, tensor in enumerate(tensors.values(), start=1):
        bits = tensor.contiguous().view(torch.int32).sum(dtype=torch.int64)
        total = (total * ODD + int(bits) * (2 * number + 1)) & WORD
    return total - (total >> 63 << 64)


def are_finite(model: nn.Module) -> bool:
    """Whether all weights are numbers. A checkpoint of others would push the last good one out."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())


def compare(strategy: Strategy, tensors: Mapping[str, Tensor], step: int) -> None:
    """Return if all members agree.

    Raises PeerLost on members of the majority, which keep their state, and Diverged on the others;
    without one, on all: then the newest checkpoint is the truth, compared before it was made.
    """
    found = torch.zeros(strategy.world_size, dtype=torch.int64)
    found[strategy.rank] = fingerprint(tensors)
    prints = strategy.sum(found).tolist()
    if len(set(prints)) == 1:
        return
    right, votes = Counter(prints).most_common(1)[0]
    has_majority = 2 * votes > len(prints)
    wrong = [rank for rank, value in enumerate(prints) if value != right]
    why = f"weights differ after step {step}: " + (
        f"of ranks {wrong}" if has_majority else f"{prints}, and no majority agrees"
    )
    if has_majority and prints[strategy.rank] == right:
        raise PeerLost(why)
    raise Diverged(why)
