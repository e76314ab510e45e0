"""Weights and optimizer through shards and back: equal to the last bit, or refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.optim import AdamW

from runtime.errors import Corrupt
from runtime.model.decoder import Decoder
from runtime.train import state as module
from runtime.train.optimizer import apply, build_optimizer
from runtime.train.state import copy_in, set_step, tensors_of, to_shards
from runtime.train.worker import shape_of
from tests.tiny import tiny_spec

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = tiny_spec(Path("unused"))
STEPS = 3


def fresh(seed: int) -> tuple[Decoder, AdamW]:
    """A model that has taken no step."""
    model = Decoder(shape_of(SPEC))
    model.init(torch.Generator().manual_seed(seed))
    return model, build_optimizer(model, SPEC)


def step(model: Decoder, optimizer: AdamW, number: int) -> None:
    """A step with gradients that depend on its number alone."""
    generator = torch.Generator().manual_seed(number)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    apply(optimizer, number, SPEC)


@pytest.fixture
def trained(seed: int) -> tuple[Decoder, AdamW]:
    """A model with some steps behind it: all its moments are something."""
    model, optimizer = fresh(seed)
    for number in range(STEPS):
        step(model, optimizer, number)
    return model, optimizer


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """To the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_model_goes_on_from_its_shards_as_if_it_had_never_stopped(
    trained: tuple[Decoder, AdamW], seed: int
) -> None:
    shards = list(to_shards(tensors_of(*trained)))
    model, optimizer = fresh(seed + 1)

    tensors = tensors_of(model, optimizer)
    copy_in(tensors, iter(shards))
    set_step(optimizer, STEPS)

    assert equal(tensors, tensors_of(*trained))
    for number in range(STEPS, STEPS + 3):
        step(*trained, number)
        step(model, optimizer, number)
    assert equal(tensors_of(model, optimizer), tensors_of(*trained))


def test_all_weights_and_both_moments_are_named_whether_or_not_a_step_was_taken(
    trained: tuple[Decoder, AdamW], seed: int
) -> None:
    new = tensors_of(*fresh(seed))

    assert list(new) == list(tensors_of(*trained))
    weights = {name.partition(".")[2] for name in new}
    assert weights == {name for name, _ in trained[0].named_parameters()}
    assert len(new) == 3 * len(weights)
    assert all(not new[f"exp_avg.{name}"].any() for name in weights)
    assert all(tensors_of(*trained)[f"exp_avg.{name}"].any() for name in weights)


def test_named_tensors_are_those_of_the_model_and_not_copies(
    trained: tuple[Decoder, AdamW],
) -> None:
    model, optimizer = trained

    for tensor in tensors_of(model, optimizer).values():
        tensor.zero_()

    assert not any(parameter.any() for parameter in model.parameters())
    assert all(not state["exp_avg"].any() for state in optimizer.state.values())


@pytest.mark.parametrize("shard_bytes", [1, 1000, 9000, 20_000])
def test_shards_are_no_larger_than_said_unless_one_tensor_is(
    trained: tuple[Decoder, AdamW], seed: int, monkeypatch: pytest.MonkeyPatch, shard_bytes: int
) -> None:
    monkeypatch.setattr(module, "SHARD_BYTES", shard_bytes)
    tensors = tensors_of(*trained)

    shards = list(to_shards(tensors))

    parts = [load(shard) for shard in shards]
    assert len(parts) > 1
    assert sorted(name for part in parts for name in part) == sorted(tensors)
    for part in parts:
        assert len(part) == 1 or sum(value.nbytes for value in part.values()) <= shard_bytes
    model, optimizer = fresh(seed + 1)
    copy_in(tensors_of(model, optimizer), shards)
    assert equal(tensors_of(model, optimizer), tensors)


Spoil = Callable[[dict[str, Tensor]], list[bytes]]
NORM = "weight.model.norm.weight"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda t: [save({n: v for n, v in t.items() if n != NORM})], f"1 tensors are.*{NORM}"),
        (lambda _: [], "tensors are missing"),
        (lambda t: [save(t | {NORM: torch.zeros(31)})], r"of \(31,\) fits nothing"),
        (lambda t: [save(t | {NORM: torch.zeros(1)})], r"of \(1,\) fits nothing"),
        (lambda t: [save(t | {"weight.extra": torch.zeros(2)})], r"weight\.extra"),
        (lambda t: [save(t), save({NORM: t[NORM]})], f"{NORM} of"),
        (lambda t: [save(t)[:-1]], "checkpoint"),
        (lambda t: [save(t)[:4]], "checkpoint"),
        (lambda _: [b""], "checkpoint"),
    ],
    ids=[
        "one missing", "all missing", "another shape", "a shape that would be spread",
        "unknown", "twice", "cut", "cut in the header", "empty",
    ],
)  # fmt: skip
def test_shards_that_do_not_fit_are_corrupt(
    trained: tuple[Decoder, AdamW], seed: int, spoil: Spoil, why: str
) -> None:
    shards = spoil({name: value.clone() for name, value in tensors_of(*trained).items()})

    with pytest.raises(Corrupt, match=why):
        copy_in(tensors_of(*fresh(seed)), shards)
