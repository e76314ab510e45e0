"""AdamW, and how its learning rate moves."""

import math

import torch
from torch import nn
from torch.optim import AdamW

from runtime.node_spec import TrainSpec

BETAS = (0.9, 0.95)  # as GPT-3 (Brown et al. 2020, appendix B): 0.999 is slow to see a new gradient
FLOOR = 0.05  # of the peak, at the last step


def build_optimizer(model: nn.Module, spec: TrainSpec) -> AdamW:
    """Decay on matrices only: a norm's gain has no direction that could overfit."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": spec.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    # The step counter of a fused one is a tensor, which a checkpoint need not hold: see state.py.
    return AdamW(groups, lr=spec.learning_rate, betas=BETAS, fused=True)


def learning_rate(step: int, spec: TrainSpec) -> float:
    """Of the step that follows `step` applied ones: linear warm-up, then a cosine to the floor."""
    if step < spec.warmup_steps:
        return spec.learning_rate * (step + 1) / spec.warmup_steps
    done = (step - spec.warmup_steps) / max(1, spec.steps - spec.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return spec.learning_rate * (FLOOR + (1 - FLOOR) * cosine)


def apply(optimizer: AdamW, step: int, spec: TrainSpec) -> float:
    """Clip what the gradients add up to, and move the weights; returns the norm before.

    A norm that is no number moves nothing: it would leave nothing but such numbers.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, spec.clip_norm))
    if math.isfinite(norm):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, spec)
        optimizer.step()
    return norm
