"""Data-parallel on gloo: every member holds all weights, gradients are summed in flat buckets.

The process group is made here, in this process, for one epoch; a lost peer costs the group, never
the process. A bucket sets out as soon as its gradients are there, while backward goes on.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore, ProcessGroupGloo, TCPStore
from torch.distributed import DistStoreError
from torch.utils.hooks import RemovableHandle

from runtime.limits import COLLECTIVE_S, INTERRUPT_AGAIN_S, MEET_AGAIN_S
from runtime.packing import packed
from runtime.train.strategy import PeerLost, words_max

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
        self._place = _Place(
            epoch=epoch,
            rank=rank,
            world_size=world_size,
            rendezvous=rendezvous,
            address=address,
            collective_s=collective_s,
        )
        self._model = model
        self._store: PrefixStore | None = None
        self._group: Group | None = None
        self._buckets: list[_Bucket] = []
        self._hooks: list[RemovableHandle] = []
        self._is_last = False
        self._sent = 0  # buckets on their way: always the first ones, the same on all members
        self._works: list[Work] = []
        self._others = frozenset[str]()  # sockets that are not this group's
        self._mine = frozenset[str]()  # those that are
        self._is_over = threading.Event()  # interrupted or closed
        self._closing = threading.Lock()
        self._is_closed = False

    def join(self) -> None:
        """Meet the others; raises PeerLost."""
        self._others = _sockets()
        self._store, self._group = _guarded(lambda: _join(self._place, self._is_over))
        self._mine = _sockets() - self._others
        *others, last = _grouped(self._model)
        self._buckets = [_Bucket(parameters) for parameters in others]
        self._buckets.append(_Bucket(last, words_max(self.world_size)))
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                self._hook(bucket)
            )
            for bucket in self._buckets
            for parameter in bucket.parameters
        ]
        # A step that can't be applied any more is given up within a layer, not at its end.
        for module in self._model.modules():
            self._hooks.append(module.register_forward_pre_hook(lambda *_: self._check()))

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

    def finish(self, words: Tensor) -> Tensor:
        """Send what has not set out (all of it, for a member without samples) and wait.

        The last bucket has waited for the words. It has lost nothing by that: the gradient that it
        waited for before is the last that backward finds.
        """
        room = self._buckets[-1].words
        room[: len(words)] = words
        while self._sent < len(self._buckets):
            self._send_next()
        for work in self._works:
            _guarded(work.wait)
        return room[: len(words)].to(words.dtype, copy=True)

    def sum(self, values: Tensor) -> Tensor:
        """An all-reduce of its own; waits for the buckets before it."""
        total = values.clone()
        _guarded(lambda: self._reduce(total).wait())
        return total

    def publish(self, key: str, value: str) -> None:
        """Leave a word for the others in the epoch's store."""
        store = self._store
        assert store is not None, "joined"
        _guarded(lambda: store.set(key, value))

    def published(self, key: str) -> str:
        """Ask again whenever the store's own deadline, which is a collective's, has passed."""
        store = self._store
        assert store is not None, "joined"
        while True:
            self._check()
            word = _guarded(lambda: _word(store, key))
            if word is not None:
                return word.decode()

    def interrupt(self) -> None:
        """From another thread: whoever joins or waits in a collective fails at once.

        Gloo waits on a silent peer until its own deadline whatever is called, so its connections
        are ended under it: again and again, since it may just be making new ones.
        """
        if not self._is_over.is_set():
            self._is_over.set()
            threading.Thread(target=self._interrupt, name="interrupt", daemon=True).start()

    def _interrupt(self) -> None:
        while True:
            with self._closing:
                if self._is_closed:
                    return
                _end(self._mine or _sockets() - self._others)
            time.sleep(INTERRUPT_AGAIN_S)

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
        with self._closing:
            self._is_closed = True
            self._is_over.set()
            if self._group is not None:
                self._group.shutdown()
        # The first member's store listens for as long as anybody holds it, and the group does too.
        self._works = []
        self._group = self._store = None

    def _check(self) -> None:
        if self._is_over.is_set():
            raise PeerLost("the epoch is over")

    def _hook(self, bucket: "_Bucket") -> Callable[[Tensor], None]:
        def ready(_: Tensor) -> None:
            self._check()
            if not self._is_last:
                return
            bucket.missing -= 1
            # In order only: all members must start the same collectives in the same order.
            while self._sent < len(self._buckets) - 1 and self._buckets[self._sent].missing == 0:
                self._send_next()

        return ready

    def _send_next(self) -> None:
        bucket = self._buckets[self._sent]
        self._sent += 1
        self._works.append(_guarded(lambda: self._reduce(bucket.flat)))

    def _broadcast(self, tensor: Tensor) -> None:
        assert self._group is not None, "joined"
        self._group.broadcast(tensor, 0).wait()

    def _reduce(self, tensor: Tensor) -> Work:
        # What a ring sends per member: reduce-scatter and all-gather, (n-1)/n of the whole each.
        self.bytes_sent += 2 * tensor.nbytes * (self.world_size - 1) // self.world_size
        assert self._group is not None, "joined"
        return self._group.allreduce([tensor])


class _Bucket:
    """Some parameters whose gradients lie side by side, and room for some words after them."""

    def __init__(self, parameters: list[nn.Parameter], room: int = 0) -> None:
        self.parameters = parameters
        count = sum(p.numel() for p in parameters)
        self.flat = torch.zeros(count + room, dtype=parameters[0].dtype)
        self.words = self.flat[count:]
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
    last_first = reversed(list(model.parameters()))
    return packed(last_first, lambda parameter: parameter.nbytes, BUCKET_BYTES)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """A member's place in an epoch."""

    epoch: int
    rank: int
    world_size: int
    rendezvous: str
    address: str
    collective_s: float


def _join(place: _Place, is_over: threading.Event) -> tuple[PrefixStore, Group]:
    host, _, port = place.rendezvous.rpartition(":")
    timeout = timedelta(seconds=place.collective_s)
    is_first = place.rank == 0
    # Bound by us: torch would listen on all addresses, where another stack may want the port.
    listener = socket.create_server((host, int(port))).detach() if is_first else None
    if not is_first:
        _meet(host, int(port), place.collective_s, is_over)
    store = TCPStore(
        host, int(port), place.world_size, is_first, timeout, False, master_listen_fd=listener
    )
    options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._devices = [ProcessGroupGloo.create_device(hostname=place.address)]
    options._timeout = timeout
    prefixed = PrefixStore(f"e{place.epoch}", store)
    group = ProcessGroupGloo(prefixed, place.rank, place.world_size, options)
    return prefixed, cast(Group, group)


def _meet(host: str, port: int, within_s: float, is_over: threading.Event) -> None:
    """Until the first member listens: torch's client, refused once, waits for many seconds."""
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            socket.create_connection((host, port), timeout=within_s).close()
        except ConnectionRefusedError:
            if is_over.wait(MEET_AGAIN_S) or time.monotonic() > deadline_s:
                raise
        else:
            return


def _word(store: PrefixStore, key: str) -> bytes | None:
    try:
        return store.get(key)
    except DistStoreError:  # not there in time
        return None


def _sockets() -> frozenset[str]:
    """This process's sockets, as the kernel names them."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the folder's own descriptor is gone by now
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return frozenset(name for name in found if name.startswith("socket:"))


def _end(sockets: frozenset[str]) -> None:
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{number}") not in sockets:
                continue
            with socket.socket(fileno=os.dup(number)) as ours:
                # Gloo ends the process when its listener fails.
                if not ours.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    ours.shutdown(socket.SHUT_RDWR)


def _guarded(call: Callable[[], Result]) -> Result:
    """Any fault of gloo or its store is a lost peer: RuntimeError is all they tell."""
    try:
        return call()
    except (RuntimeError, OSError) as fault:
        raise PeerLost(str(fault).splitlines()[0]) from fault
