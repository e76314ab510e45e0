"""On a GPU a run is what it is on the CPU; where there is none, it is refused."""

import pytest
import torch
from safetensors.torch import load_file

from runtime.errors import Refused
from runtime.train.device import device_of, open_device
from runtime.train.state import to_shards
from runtime.train.strategy import PeerLost, Strategy, words_max
from runtime.train.strategy.ddp import Ddp
from tests.runtime.train.group import Group
from tests.runtime.train.test_loop import Build, Member, build, losses, prepared, train

__all__ = ["build", "prepared"]  # fixtures

pytestmark = pytest.mark.usefixtures("one_thread")

has_gpu = torch.cuda.is_available()
on_a_gpu = pytest.mark.skipif(not has_gpu, reason="this machine has no GPU")


def member_of_one(model: torch.nn.Module) -> Strategy:
    """One that has a group all the same."""
    group = Group()
    member = Ddp(
        model,
        epoch=0,
        rank=0,
        world_size=1,
        rendezvous=group.rendezvous(),
        address=f"{group.subnet}.10",
    )
    member.join()
    return member


@pytest.mark.skipif(has_gpu, reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused_and_the_setting_named() -> None:
    with pytest.raises(Refused, match=r"training\.device: found no GPU"):
        open_device("gpu")


@on_a_gpu
@pytest.mark.parametrize("strategy", ["alone", "group"])
def test_a_run_on_a_gpu_learns_what_it_learns_on_the_cpu(build: Build, strategy: str) -> None:
    (on_cpu,), (on_gpu,) = build(1, "cpu"), build(1, "gpu")
    on_gpu.model.to(open_device("gpu"))
    if strategy == "group":
        on_gpu.strategy = member_of_one

    train([on_cpu])
    train([on_gpu])

    assert device_of(on_gpu.model).type == "cuda"
    torch.testing.assert_close(losses(on_gpu), losses(on_cpu), rtol=1e-2, atol=0)
    assert [*to_shards(on_gpu.tensors)]
    assert exported(on_gpu).keys() == exported(on_cpu).keys()


@on_a_gpu
def test_who_is_interrupted_on_a_gpu_takes_nothing_for_done() -> None:
    model = torch.nn.Linear(8, 8).to(open_device("gpu"))
    member = member_of_one(model)
    member.begin()
    member.backward(model(torch.ones(2, 8, device="cuda")).sum(), is_last=True)

    member.interrupt()

    with pytest.raises(PeerLost):
        member.finish(torch.zeros(words_max(1)))
    member.close()


def exported(member: Member) -> dict[str, torch.Tensor]:
    """The published weights."""
    return load_file(member.folder / "model" / "model.safetensors")
