"""Where a worker computes: on one GPU, or on the CPU."""

import logging

import torch
from torch import nn

from runtime.errors import Refused
from runtime.node_spec import Device

log = logging.getLogger("worker")


def open_device(device: Device) -> torch.device:
    """As the stack file says; raises Refused. A worker uses one GPU, however many its node has."""
    if device == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if count == 0:
        raise Refused(
            "training.device: found no GPU that torch can use; allowed cpu here; "
            "look at the node's driver (nvidia-smi), or leave the setting out"
        )
    if count > 1:
        log.warning("this node has %d GPUs; its worker uses the first", count)
    torch.set_float32_matmul_precision("high")  # float32 matrices as TF32, on the tensor cores
    return torch.device("cuda", 0)


def device_of(model: nn.Module) -> torch.device:
    """Where its weights are."""
    return next(model.parameters()).device


def settle(device: torch.device) -> None:
    """Until what was computed so far is there: a GPU is only told what to do."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
