"""Gradients of several members over real gloo, and what the loss of one costs the others."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from runtime.coordination.next_epoch import PORT_FIRST
from runtime.train.order import chunks, share
from runtime.train.strategy import PeerLost, Strategy, ddp, words_max
from tests.runtime.train.group import Group, at_once

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[3]
WIDTH = 5
MICRO = 2
LONG_S = 120.0  # a collective that waits this long has not noticed the loss by itself
NOTICE_S = 20.0
# Rank 1 of 3: takes part in one step, says so, and does not come to the next.
STAYS_AWAY = """
import sys
import torch
from runtime.train.strategy.ddp import Ddp

model = torch.nn.Linear(5, 1)
strategy = Ddp(model, epoch=0, rank=1, world_size=3, rendezvous=sys.argv[1], address=sys.argv[2])
strategy.join()
strategy.sum(torch.zeros(1))
print("in", flush=True)
sys.stdin.readline()
"""


def build_model(seed: int) -> nn.Module:
    """Of parameters of several sizes; drawn from a generator of its own, which threads need.

    In float64, so that another order of the summands is far below what a fault would be.
    """
    model = nn.Sequential(nn.Linear(WIDTH, 7), nn.Tanh(), nn.Linear(7, 3), nn.RMSNorm(3)).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    return model


def build_inputs(seed: int, samples: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, WIDTH, generator=generator, dtype=torch.float64)


def gradients(strategy: Strategy, model: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Of one step, after it: what this member's share of the inputs and the others' add up to.

    Words that travel with them add up too.
    """
    mine = share(len(inputs), strategy.rank, strategy.world_size)
    parts = chunks(mine, MICRO)
    strategy.begin()
    for number, part in enumerate(parts, start=1):
        loss = model(inputs[part]).square().sum()
        strategy.backward(loss, is_last=number == len(parts))
    world_size = strategy.world_size
    words = torch.arange(words_max(world_size), dtype=torch.float32) * (strategy.rank + 1)
    total = strategy.finish(words)
    ranks = world_size * (world_size + 1) // 2
    assert total.tolist() == [float(number * ranks) for number in range(words_max(world_size))]
    return [
        parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None
    ]


def gradients_of_one(seed: int, inputs: Tensor) -> list[Tensor]:
    model = build_model(seed)
    return gradients(Group().join(model, 0, 1), model, inputs)


@pytest.fixture
def group() -> Group:
    return Group()


@pytest.mark.parametrize("bucket_bytes", [1, 100, 4 << 20], ids="buckets of {} bytes".format)
@pytest.mark.parametrize(("world_size", "samples"), [(2, 8), (2, 7), (3, 10), (3, 2)])
def test_gradients_are_the_sum_over_the_whole_batch_and_the_same_on_all(
    group: Group,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    world_size: int,
    samples: int,
    bucket_bytes: int,
) -> None:
    monkeypatch.setattr(ddp, "BUCKET_BYTES", bucket_bytes)
    first, second = build_inputs(seed, samples), build_inputs(seed + 1, samples)

    def work(rank: int) -> list[list[Tensor]]:
        model = build_model(seed)
        strategy = group.join(model, rank, world_size)
        try:
            return [gradients(strategy, model, inputs) for inputs in (first, second)]
        finally:
            strategy.close()

    members = at_once(world_size, work)

    for member in members:
        for step, inputs in enumerate((first, second)):
            torch.testing.assert_close(member[step], gradients_of_one(seed, inputs))
            assert all(map(torch.equal, member[step], members[0][step]))


def test_buckets_but_the_last_set_out_during_the_last_backward_and_not_before(
    group: Group, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ddp, "BUCKET_BYTES", 1)
    inputs = build_inputs(seed, MICRO)

    def work(rank: int) -> list[int]:
        model = build_model(seed)
        strategy = group.join(model, rank, 2)
        strategy.begin()
        sent = [strategy.bytes_sent]
        for is_last in (False, True):
            strategy.backward(model(inputs).sum(), is_last=is_last)
            sent.append(strategy.bytes_sent)
        strategy.finish(torch.zeros(1))
        sent.append(strategy.bytes_sent)
        strategy.close()
        return sent

    last, *others = [parameter.nbytes for parameter in build_model(seed).parameters()]
    words = words_max(2) * torch.float64.itemsize
    for sent in at_once(2, work):
        assert sent == [0, 0, sum(others), sum(others) + last + words]


def test_bytes_are_those_of_a_ring(group: Group) -> None:
    def work(rank: int) -> int:
        strategy = group.join(nn.Linear(1, 1), rank, 3)
        strategy.sum(torch.zeros(300, dtype=torch.float64))
        strategy.close()
        return strategy.bytes_sent

    assert at_once(3, work) == [2 * 2400 * 2 // 3] * 3


def test_the_first_members_tensors_overwrite_all_others_in_place(group: Group) -> None:
    def work(rank: int) -> list[list[float]]:
        strategy = group.join(nn.Linear(1, 1), rank, 3)
        tensors = [torch.full((4,), float(rank)), torch.full((2, 2), rank + 0.5)]
        strategy.broadcast(tensors)
        strategy.close()
        return [tensor.flatten().tolist() for tensor in tensors]

    assert at_once(3, work) == [[[0.0] * 4, [0.5] * 4]] * 3


def test_a_sum_is_over_all_and_leaves_what_was_given(group: Group) -> None:
    def work(rank: int) -> tuple[list[float], list[float]]:
        strategy = group.join(nn.Linear(1, 1), rank, 3)
        values = torch.tensor([1.0, 10.0 * rank], dtype=torch.float64)
        total = strategy.sum(values)
        strategy.close()
        return total.tolist(), values.tolist()

    assert at_once(3, work) == [([3.0, 30.0], [1.0, 10.0 * rank]) for rank in range(3)]


def test_after_close_the_model_trains_on_alone(group: Group, seed: int) -> None:
    inputs = build_inputs(seed, 6)

    def work(rank: int) -> list[Tensor]:
        model = build_model(seed)
        strategy = group.join(model, rank, 2)
        gradients(strategy, model, inputs)
        strategy.close()
        assert all(parameter.grad is None for parameter in model.parameters())
        return gradients(group.join(model, 0, 1), model, inputs)

    for member in at_once(2, work):
        torch.testing.assert_close(member, gradients_of_one(seed, inputs))


def test_a_step_that_was_broken_off_leaves_no_trace_after_close(
    group: Group, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ddp, "BUCKET_BYTES", 1)
    inputs, together = build_inputs(seed, 6), threading.Barrier(2)

    def work(rank: int) -> list[Tensor]:
        model = build_model(seed)
        strategy = group.join(model, rank, 2)
        together.wait()  # threads of one process: what is cut while another joins may be its
        strategy.begin()
        last = model.get_submodule("3")
        strategy.backward(last(inputs[:, :3]).sum(), is_last=True)  # the other layers' are missing
        strategy.close()
        return gradients(group.join(model, 0, 1), model, inputs)

    for member in at_once(2, work):
        torch.testing.assert_close(member, gradients_of_one(seed, inputs))


def test_who_closes_does_not_wait_for_what_is_under_way(
    group: Group, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ddp, "BUCKET_BYTES", 1)
    together, has_closed = threading.Barrier(3), threading.Event()

    def work(rank: int) -> bool:
        model = build_model(seed)
        strategy = group.join(model, rank, 3, collective_s=LONG_S)
        together.wait()  # threads of one process: what is cut while another joins may be its
        if rank != 0:
            return has_closed.wait(NOTICE_S)  # silent: it neither takes part nor leaves
        strategy.begin()
        strategy.backward(model(build_inputs(seed, 1)).sum(), is_last=True)
        strategy.close()
        has_closed.set()
        return True

    assert at_once(3, work) == [True] * 3


def test_a_collective_that_nothing_ends_holds_nobody_up_once_the_epoch_is_over(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ddp, "cut", lambda _: None)  # as gloo leaves one of some hundred
    together, has_closed = threading.Barrier(2), threading.Event()

    def work(rank: int) -> bool:
        strategy = group.join(nn.Linear(1, 1), rank, 2, collective_s=LONG_S)
        together.wait()
        if rank != 0:
            return has_closed.wait(NOTICE_S)
        threading.Timer(0.1, strategy.interrupt).start()
        with pytest.raises(PeerLost, match="over"):
            strategy.sum(torch.zeros(1))
        strategy.close()
        has_closed.set()
        return True

    assert at_once(2, work) == [True] * 2


def test_a_closed_group_gives_its_port_back_while_somebody_still_holds_it(group: Group) -> None:
    def work(rank: int) -> Strategy:
        strategy = group.join(nn.Linear(1, 1), rank, 2)
        strategy.sum(torch.zeros(1))
        strategy.close()
        return strategy

    held = at_once(2, work)

    socket.create_server((f"{group.subnet}.10", PORT_FIRST)).close()
    assert len(held) == 2


def test_a_member_that_leaves_is_lost_to_those_that_wait_for_it(group: Group) -> None:
    def work(rank: int) -> bool:
        strategy = group.join(nn.Linear(1, 1), rank, 3, collective_s=LONG_S)
        strategy.sum(torch.zeros(1))
        if rank == 1:
            strategy.close()
            return True
        with pytest.raises(PeerLost):
            strategy.sum(torch.zeros(1))
        strategy.close()
        return True

    assert at_once(3, work) == [True] * 3


def test_a_member_that_says_nothing_is_lost_after_the_collectives_time(group: Group) -> None:
    has_noticed = threading.Event()

    def work(rank: int) -> bool:
        strategy = group.join(nn.Linear(1, 1), rank, 2, collective_s=1.0)
        if rank == 1:
            return has_noticed.wait(NOTICE_S)
        with pytest.raises(PeerLost):
            strategy.sum(torch.zeros(1))
        has_noticed.set()
        return True

    assert at_once(2, work) == [True, True]


def test_a_word_may_come_later_than_a_collective_may_take(group: Group) -> None:
    def work(rank: int) -> str:
        strategy = group.join(nn.Linear(1, 1), rank, 2, collective_s=0.5)
        if rank == 1:
            time.sleep(2.0)
            strategy.publish("word", "late")
        found = strategy.published("word")
        strategy.sum(torch.zeros(1))  # neither leaves while the other still asks
        strategy.close()
        return found

    assert at_once(2, work) == ["late", "late"]


@pytest.mark.parametrize("how", ["interrupted", "left alone"])
def test_who_waits_for_a_word_is_told_that_the_epoch_is_over(group: Group, how: str) -> None:
    has_noticed, has_met = threading.Event(), threading.Barrier(2)

    def work(rank: int) -> bool:
        strategy = group.join(nn.Linear(1, 1), rank, 2, collective_s=0.5)
        has_met.wait(NOTICE_S)
        if rank == 0:  # whose store it is
            time.sleep(1.0)
            if how == "left alone":
                strategy.close()
            return has_noticed.wait(NOTICE_S)
        if how == "interrupted":
            threading.Timer(1.0, strategy.interrupt).start()
        with pytest.raises(PeerLost):
            strategy.published("never")
        has_noticed.set()
        return True

    assert at_once(2, work) == [True, True]


def test_who_is_interrupted_waits_no_longer_for_a_silent_peer(group: Group) -> None:
    has_noticed = threading.Event()

    def notice(rank: int) -> bool:
        strategy = group.join(nn.Linear(1, 1), rank, 3, epoch=1, collective_s=LONG_S)
        if rank == 2:
            return has_noticed.wait(NOTICE_S)
        threading.Timer(0.2, strategy.interrupt).start()
        with pytest.raises(PeerLost):
            strategy.sum(torch.zeros(1 << 20))
        has_noticed.set()
        strategy.close()
        return True

    assert at_once(3, notice) == [True] * 3


@pytest.mark.parametrize("at", ["forward", "backward"])
def test_who_is_interrupted_while_it_computes_does_not_compute_on(group: Group, at: str) -> None:
    together = threading.Barrier(2)

    def compute(rank: int) -> list[str]:
        model = build_model(rank)
        strategy = group.join(model, rank, 2)
        together.wait()  # both are threads of one process: what is cut while one joins may be its
        strategy.begin()
        done: list[str] = []

        def interrupt(*_: object) -> None:
            strategy.interrupt()

        parameters = [*model.parameters()]
        first_module, *_, last_module = model.children()
        if at == "forward":
            first_module.register_forward_hook(interrupt)
            last_module.register_forward_hook(lambda *_: done.append("last module"))
        else:
            parameters[-1].register_hook(interrupt)  # type: ignore[no-untyped-call]
            first = parameters[0]
            first.register_hook(lambda _: done.append("first"))  # type: ignore[no-untyped-call]
        with pytest.raises(PeerLost, match="the epoch is over"):
            # Not the last part: nothing is sent, so that no collective can notice.
            strategy.backward(model(build_inputs(rank, 1)).square().sum(), is_last=False)
        strategy.close()
        return done

    assert at_once(2, compute) == [[], []]


@pytest.mark.parametrize("rank", [0, 1])
def test_who_is_interrupted_while_it_joins_waits_no_longer(group: Group, rank: int) -> None:
    member = group.member(nn.Linear(1, 1), rank, 2, collective_s=LONG_S)
    threading.Timer(0.2, member.interrupt).start()

    with pytest.raises(PeerLost):
        member.join()

    member.close()


@pytest.mark.parametrize("rank", [0, 1])
def test_peers_that_never_come_are_lost(group: Group, rank: int) -> None:
    with pytest.raises(PeerLost):
        group.join(nn.Linear(1, 1), rank, 2, collective_s=0.3)


def test_a_port_that_is_taken_is_a_lost_peer_and_no_crash(group: Group) -> None:
    with (
        socket.create_server((f"{group.subnet}.10", PORT_FIRST)),
        pytest.raises(PeerLost, match="in use"),
    ):
        group.join(nn.Linear(1, 1), 0, 2)


@pytest.mark.slow
def test_those_that_survive_a_killed_member_go_on_in_a_new_group(group: Group, seed: int) -> None:
    inputs = build_inputs(seed, 6)
    killed = subprocess.Popen(
        [sys.executable, "-P", "-c", STAYS_AWAY, group.rendezvous(), f"{group.subnet}.11"],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )

    def kill() -> None:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"in\n"
        killed.send_signal(signal.SIGKILL)

    def survive(number: int) -> list[Tensor]:
        model = build_model(seed)
        before = group.join(model, 2 * number, 3, collective_s=LONG_S)
        before.sum(torch.zeros(1))
        if number == 0:
            kill()
        with pytest.raises(PeerLost):
            gradients(before, model, inputs)
        before.close()
        after = group.join(model, number, 2, epoch=1)
        found = gradients(after, model, inputs)
        after.close()
        return found

    try:
        members = at_once(2, survive)
    finally:
        killed.kill()
        killed.wait()

    for member in members:
        torch.testing.assert_close(member, gradients_of_one(seed, inputs))
