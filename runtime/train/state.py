"""Weights and optimizer as named tensors: what a checkpoint holds and a newcomer is sent."""

from collections.abc import Iterable, Iterator, Mapping

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import AdamW

from runtime.errors import Corrupt
from runtime.packing import packed

SHARD_BYTES = 256 << 20
WEIGHT = "weight"
MOMENTS = ("exp_avg", "exp_avg_sq")


def tensors_of(model: nn.Module, optimizer: AdamW) -> dict[str, Tensor]:
    """The tensors themselves, not copies, in a fixed order; moments are made if not there yet."""
    named: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)  # where a fused one wants it
            for moment in MOMENTS:
                state[moment] = torch.zeros_like(parameter)
        named[f"{WEIGHT}.{name}"] = parameter.detach()
        for moment in MOMENTS:
            named[f"{moment}.{name}"] = state[moment]
    return named


def set_step(optimizer: AdamW, step: int) -> None:
    """AdamW counts steps for its bias correction; the count is the run's own."""
    for state in optimizer.state.values():
        state["step"].fill_(float(step))


def copy_in(target: Mapping[str, Tensor], shards: Iterable[bytes]) -> None:
    """Read shards into tensors; raises Corrupt if they do not fit."""
    missing = set(target)
    for content in shards:
        try:
            parts = load(content)
        except safetensors.SafetensorError as fault:
            raise Corrupt(f"checkpoint: {fault}") from fault
        for name, value in parts.items():
            if name not in missing or target[name].shape != value.shape:
                raise Corrupt(f"checkpoint: {name} of {tuple(value.shape)} fits nothing here")
            target[name].copy_(value)
            missing.discard(name)
    if missing:
        raise Corrupt(f"checkpoint: {len(missing)} tensors are missing, {min(missing)} first")


def to_shards(named: Mapping[str, Tensor]) -> Iterator[bytes]:
    """Safetensors files of at most SHARD_BYTES each, a larger tensor alone in its own."""
    for part in packed(named.items(), lambda item: item[1].nbytes, SHARD_BYTES):
        yield save({name: value.contiguous() for name, value in part})
