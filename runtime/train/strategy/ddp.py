"""Data-parallel on gloo: every member holds all weights, gradients are summed in flat buckets.

The process group is made here, in this process, for one epoch; a lost peer costs the group, never
the process. A bucket sets out as soon as its gradients are there, while backward goes on.
"""

import socket
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore, ProcessGroupGloo, TCPStore

from runtime.limits import COLLECTIVE_S
from runtime.train.strategy import PeerLost

BUCKET_BYTES = 4 << 20

Result = TypeVar("Result")


class Work(Protocol):
    """A collective on its way."""

    def wait(self) -> bool:
        """Until it is done; raises RuntimeError."""


class Group(Protocol):
    """What we ask of ProcessGroupGloo; torch's stubs leave its methods out."""

    def allreduce(self, tensors: list[Tensor]) -> Work:
        """Sum in place."""

    def broadcast(self, tensor: Tensor, root: int) -> Work:
        """Overwrite by the root's."""

    def shutdown(self) -> None:
        """Close the connections."""


class Ddp:
    """Strategy of one member among several."""

    def __init__(
        self,
        model: nn.Module,
        *,
        epoch: int,
        rank: int,
        world_size: int,
        rendezvous: str,
        address: str,
        collective_s: float = COLLECTIVE_S,
    ) -> None:
        self.rank = rank
        self.world_size = world_size
        self.bytes_sent = 0
        self._store, self._group = _guarded(
            lambda: _join(epoch, rank, world_size, rendezvous, address, collective_s)
        )
        self._buckets = [_Bucket(parameters) for parameters in _grouped(model)]
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                self._hook(bucket)
            )
            for bucket in self._buckets
            for parameter in bucket.parameters
        ]
        self._is_last = False
        self._sent = 0  # buckets on their way: always the first ones, the same on all members
        self._works: list[Work] = []

    def begin(self) -> None:
        """Zero the buckets, which the gradients are views of."""
        self._sent = 0
        self._works = []
        self._is_last = False
        for bucket in self._buckets:
            bucket.reset()

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Add; buckets set out during the last one."""
        self._is_last = is_last
        loss.backward()  # type: ignore[no-untyped-call]

    def finish(self) -> None:
        """Send what has not set out (all of it, for a member without samples) and wait."""
        while self._sent < len(self._buckets):
            self._send_next()
        for work in self._works:
            _guarded(work.wait)

    def sum(self, values: Tensor) -> Tensor:
        """An all-reduce of its own; waits for the buckets before it."""
        total = values.clone()
        _guarded(lambda: self._reduce(total).wait())
        return total

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """One after the other."""
        for tensor in tensors:
            _guarded(partial(self._broadcast, tensor))
            if self.rank == 0:
                self.bytes_sent += tensor.nbytes

    def close(self) -> None:
        """Take the hooks off and close the connections: a peer that waits on us fails at once."""
        for hook in self._hooks:
            hook.remove()
        for bucket in self._buckets:
            bucket.release()
        self._group.shutdown()
        # The first member's store listens for as long as anybody holds it, and the group does too.
        self._works = []
        del self._group, self._store

    def _hook(self, bucket: "_Bucket") -> Callable[[Tensor], None]:
        def ready(_: Tensor) -> None:
            if not self._is_last:
                return
            bucket.missing -= 1
            # In order only: all members must start the same collectives in the same order.
            while self._sent < len(self._buckets) and self._buckets[self._sent].missing == 0:
                self._send_next()

        return ready

    def _send_next(self) -> None:
        bucket = self._buckets[self._sent]
        self._sent += 1
        self._works.append(_guarded(lambda: self._reduce(bucket.flat)))

    def _broadcast(self, tensor: Tensor) -> None:
        self._group.broadcast(tensor, 0).wait()

    def _reduce(self, tensor: Tensor) -> Work:
        # What a ring sends per member: reduce-scatter and all-gather, (n-1)/n of the whole each.
        self.bytes_sent += 2 * tensor.nbytes * (self.world_size - 1) // self.world_size
        return self._group.allreduce([tensor])


class _Bucket:
    """Some parameters whose gradients lie side by side."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.flat = torch.zeros(sum(p.numel() for p in parameters), dtype=parameters[0].dtype)
        self.missing = len(parameters)
        at = 0
        for parameter in parameters:
            parameter.grad = self.flat[at : at + parameter.numel()].view_as(parameter)
            at += parameter.numel()

    def reset(self) -> None:
        self.flat.zero_()
        self.missing = len(self.parameters)

    def release(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None


def _grouped(model: nn.Module) -> Iterable[list[nn.Parameter]]:
    """From the last layer to the first, as backward finds them; the tied embedding comes last."""
    group: list[nn.Parameter] = []
    size = 0
    for parameter in reversed(list(model.parameters())):
        if group and size + parameter.nbytes > BUCKET_BYTES:
            yield group
            group, size = [], 0
        group.append(parameter)
        size += parameter.nbytes
    if group:
        yield group


def _join(
    epoch: int, rank: int, world_size: int, rendezvous: str, address: str, collective_s: float
) -> tuple[TCPStore, Group]:
    host, _, port = rendezvous.rpartition(":")
    timeout = timedelta(seconds=collective_s)
    # Bound by us: torch would listen on all addresses, where another stack may want the port.
    listener = socket.create_server((host, int(port))).detach() if rank == 0 else None
    store = TCPStore(
        host, int(port), world_size, rank == 0, timeout, False, master_listen_fd=listener
    )
    options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._devices = [ProcessGroupGloo.create_device(hostname=address)]
    options._timeout = timeout
    group = ProcessGroupGloo(PrefixStore(f"e{epoch}", store), rank, world_size, options)
    return store, cast(Group, group)


def _guarded(call: Callable[[], Result]) -> Result:
    """Any fault of gloo or its store is a lost peer: RuntimeError is all they tell."""
    try:
        return call()
    except (RuntimeError, OSError) as fault:
        raise PeerLost(str(fault).splitlines()[0]) from fault
