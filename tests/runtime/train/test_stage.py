"""The state in memory, as another process reads it."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from runtime.model.decoder import Decoder
from runtime.train.optimizer import build_optimizer
from runtime.train.stage import DTYPES, Shape, Stage
from runtime.train.state import copy_in, tensors_of
from runtime.train.worker import shape_of
from tests.tiny import tiny_spec

pytestmark = pytest.mark.usefixtures("one_thread")
SPEC = tiny_spec(Path("unused"))


def state(seed: int) -> dict[str, Tensor]:
    """A model whose moments are something."""
    torch.manual_seed(seed)
    model = Decoder(shape_of(SPEC))
    tensors = tensors_of(model, build_optimizer(model, SPEC))
    for tensor in tensors.values():
        tensor.normal_()
    return tensors


def content(stage: Stage) -> list[bytes]:
    """As another process reads it."""
    return [os.pread(file, os.fstat(file).st_size, 0) for file in stage.files]


@pytest.mark.parametrize("shard_bytes", [1, 9000, 1 << 30])
def test_a_state_comes_back_to_the_last_bit_however_it_is_cut(seed: int, shard_bytes: int) -> None:
    tensors = state(seed)
    stage = Stage(Shape.of(tensors), shard_bytes)

    stage.take(tensors)

    fresh = state(seed + 1)
    copy_in(fresh, content(stage))
    assert all(torch.equal(fresh[name], tensors[name]) for name in tensors)
    stage.close()


def test_it_holds_the_state_of_the_last_take_and_the_same_files(seed: int) -> None:
    tensors = state(seed)
    stage = Stage(Shape.of(tensors))
    stage.take(tensors)
    files = stage.files
    for tensor in tensors.values():
        tensor.mul_(2.0)
    before = content(stage)

    stage.take(tensors)

    assert stage.files == files
    fresh = state(seed + 1)
    copy_in(fresh, content(stage))
    assert all(torch.equal(fresh[name], tensors[name]) for name in tensors)
    assert content(stage) != before
    stage.close()


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_every_type_that_it_names_is_read_by_safetensors(dtype: torch.dtype) -> None:
    odd = torch.arange(6).to(dtype)
    tensors = {
        "odd": torch.zeros(3, dtype=torch.uint8),
        "turned": odd.reshape(2, 3).T,
        "none": torch.empty(0, 2, dtype=dtype),
        "one": odd[1].clone(),
    }
    stage = Stage(Shape.of(tensors))

    stage.take(tensors)

    (found,) = map(load, content(stage))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    stage.close()


def test_a_closed_stage_leaves_no_descriptor(seed: int) -> None:
    tensors = state(seed)
    before = set(os.listdir("/proc/self/fd"))
    stage = Stage(Shape.of(tensors), shard_bytes=9000)
    stage.take(tensors)
    assert len(stage.files) > 1

    stage.close()

    assert set(os.listdir("/proc/self/fd")) == before
