"""The work that rivals do: the same model, batch, threads and optimizer, in plain torch.

Each process writes what it does to a file of its own, one JSON object per line.
"""

# B batch, T tokens, V vocabulary
# ruff: noqa: N803, N806

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import AdamW

from runtime.model.decoder import Decoder, DecoderShape

DIGEST = "digest"  # a file: the SHA-256 of weights and moments at the end


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What the command line says."""

    folder: Path  # for traces and checkpoints
    shape: DecoderShape
    global_batch: int
    sequence_tokens: int
    learning_rate: float
    clip_norm: float
    extra: Mapping[str, str]

    @classmethod
    def told(cls) -> "Work":
        """From the first argument."""
        told = json.loads(sys.argv[1])
        torch.set_num_threads(told["threads"])
        torch.manual_seed(0)
        return cls(
            folder=Path(told["folder"]),
            shape=DecoderShape(**told["model"]),
            global_batch=told["global_batch"],
            sequence_tokens=told["sequence_tokens"],
            learning_rate=told["learning_rate"],
            clip_norm=told["clip_norm"],
            extra=told["extra"],
        )

    def model(self) -> Decoder:
        """The same on all ranks."""
        model = Decoder(self.shape)
        model.init(torch.Generator().manual_seed(0))
        return model

    def optimizer(self, model: nn.Module) -> AdamW:
        """As ours, decay on all alike: it costs the same."""
        return AdamW(model.parameters(), lr=self.learning_rate, betas=(0.9, 0.95), fused=True)

    def loss(self, model: nn.Module, samples: int, step: int) -> Tensor:
        """Mean over so many sequences of noise, which cost what text does."""
        dice = torch.Generator().manual_seed(step)
        tokens_BT = torch.randint(
            self.shape.vocabulary, (samples, self.sequence_tokens + 1), generator=dice
        )
        return loss_of(model, tokens_BT)

    def apply(self, model: nn.Module, optimizer: AdamW) -> None:
        """Clip and move."""
        torch.nn.utils.clip_grad_norm_(model.parameters(), self.clip_norm)
        optimizer.step()


def loss_of(model: nn.Module, tokens_BT: Tensor) -> Tensor:
    """Mean over all tokens."""
    logits_BTV = model(tokens_BT[:, :-1])
    return cross_entropy(logits_BTV.flatten(0, 1), tokens_BT[:, 1:].flatten())


class Trace:
    """What one process does, and when."""

    def __init__(self, work: Work, rank: int) -> None:
        self._out = (work.folder / f"trace-{rank}-{os.getpid()}").open("a", buffering=1)

    def tell(self, event: str, step: int, world: int) -> None:
        """One line, at once."""
        line = {"at": time.time(), "event": event, "step": step, "world": world}
        self._out.write(json.dumps(line) + "\n")
