"""How the learning rate moves, and what a step does to which weights."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from runtime.node_spec import TrainSpec
from runtime.train.optimizer import FLOOR, apply, build_optimizer, learning_rate
from tests.tiny import tiny_spec

pytestmark = pytest.mark.usefixtures("one_thread")

PEAK = 2.0**-8  # a power of two, so that n parts of n are the whole to the last bit


def spec(steps: int = 10, warmup_steps: int = 0, **changes: object) -> TrainSpec:
    return tiny_spec(
        Path("unused"), steps=steps, warmup_steps=warmup_steps, learning_rate=PEAK, **changes
    )


@st.composite
def lengths(draw: st.DrawFn) -> tuple[int, int]:
    """Steps, and warm-up steps that fit in."""
    steps = draw(st.integers(1, 400))
    return steps, draw(st.integers(0, steps - 1))


@given(lengths=lengths())
def test_the_rate_rises_evenly_to_its_peak_and_then_only_falls(lengths: tuple[int, int]) -> None:
    steps, warmup_steps = lengths

    rates = [learning_rate(step, spec(steps, warmup_steps)) for step in range(steps)]

    up, down = rates[: warmup_steps + 1], rates[warmup_steps:]
    assert max(rates) == down[0] == PEAK
    assert up[:-1] == pytest.approx([PEAK * (n + 1) / warmup_steps for n in range(warmup_steps)])
    assert all(after < before for before, after in pairwise(down))
    assert min(rates) > 0
    assert down[-1] >= PEAK * FLOOR


@given(lengths=lengths(), beyond=st.integers(0, 1000))
def test_the_rate_ends_on_its_floor_and_stays_there(lengths: tuple[int, int], beyond: int) -> None:
    steps, warmup_steps = lengths

    rate = learning_rate(steps + beyond, spec(steps, warmup_steps))

    assert rate == pytest.approx(PEAK * FLOOR)


def test_half_way_down_the_rate_is_half_way_between_peak_and_floor() -> None:
    rate = learning_rate(60, spec(steps=100, warmup_steps=20))

    assert rate == pytest.approx(PEAK * (1 + FLOOR) / 2)


def test_only_matrices_decay(seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Embedding(7, 4), nn.RMSNorm(4), nn.Linear(4, 3))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    train = spec(weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)

    apply(build_optimizer(model, train), step=0, spec=train)

    kept = 1 - PEAK * 0.5
    for name, parameter in model.named_parameters():
        wanted = before[name] * (kept if parameter.dim() > 1 else 1)
        torch.testing.assert_close(parameter.detach(), wanted)
    assert {parameter.dim() for parameter in model.parameters()} == {1, 2}


def test_every_weight_is_moved_once(seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 3), nn.RMSNorm(3))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    train = spec(weight_decay=0.0, clip_norm=1e9)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)

    apply(build_optimizer(model, train), step=0, spec=train)

    # The first step of Adam is the learning rate itself, whatever the gradient's size.
    for parameter, old in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.detach(), old - PEAK)


def test_gradients_are_clipped_together_and_small_ones_are_let_be() -> None:
    model = nn.Linear(2, 2)
    optimizer = build_optimizer(model, spec())

    def norm_after(size: float) -> float:
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, size)
        apply(optimizer, step=0, spec=spec(clip_norm=1.0))
        parts = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        return float(torch.cat([part.flatten() for part in parts]).norm())

    assert norm_after(100.0) == pytest.approx(1.0, rel=1e-3)
    assert norm_after(0.1) == pytest.approx(0.1 * 6**0.5)


def test_a_step_is_taken_at_its_own_rate() -> None:
    model = nn.Linear(2, 2)
    train = spec(steps=100, warmup_steps=10)
    optimizer = build_optimizer(model, train)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)

    rates = []
    for step in (0, 9, 50):
        apply(optimizer, step, train)
        rates.append({group["lr"] for group in optimizer.param_groups})

    assert rates == [{learning_rate(step, train)} for step in (0, 9, 50)]
