"""Loss on held-out text, all members together."""

# B batch, T tokens, V vocabulary
# ruff: noqa: N806

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from runtime.model.decoder import Decoder
from runtime.train.data import Samples
from runtime.train.device import device_of
from runtime.train.order import chunks, share
from runtime.train.strategy import Strategy

BATCH = 32  # sequences; without gradients there is room
QUICK_SAMPLES = 128  # for the looks during training
LAST_SAMPLES = 4096  # for the figure that is published


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """Figures on held-out text."""

    loss: float  # nats per token
    bits_per_byte: float  # of the text; does not depend on the tokenizer
    tokens: int


@torch.inference_mode()
def evaluate(
    model: Decoder,
    samples: Samples,
    token_bytes: Tensor,
    strategy: Strategy,
    samples_max: int,
) -> Held:
    """Evaluate on evenly spaced samples; each member takes a share."""
    count = min(len(samples), samples_max)
    chosen = [at * len(samples) // count for at in range(count)]
    mine = share(count, strategy.rank, strategy.world_size)
    device = device_of(model)
    lengths = token_bytes.to(device)
    totals = torch.zeros(3, dtype=torch.float64, device=device)
    for part in chunks(mine, BATCH):
        batch = samples.batch([chosen[at] for at in part])
        tokens_BT, targets_BT = (side.to(device) for side in batch)
        logits_BTV = model(tokens_BT)
        nats = cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="sum")
        totals[0] += nats
        totals[1] += lengths[targets_BT].sum()
        totals[2] += targets_BT.numel()
    nats_all, bytes_all, tokens_all = strategy.sum(totals).tolist()
    return Held(
        loss=nats_all / tokens_all,
        bits_per_byte=nats_all / math.log(2) / max(1.0, bytes_all),
        tokens=int(tokens_all),
    )
