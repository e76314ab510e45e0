"""The process group of one epoch, and how to get out of it: gloo on CPUs, NCCL on GPUs."""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, ProcessGroupGloo, TCPStore
from torch.distributed import DistStoreError

from runtime.limits import MEET_AGAIN_S
from runtime.train.strategy import PeerLost

Result = TypeVar("Result")
# One collective after the other. Where two run at once and one of them fails, gloo drops the memory
# that a message was on its way into, and then reads no more from that connection, not even that it
# has ended: the other collective would wait for its deadline whatever is done.
GLOO_THREADS = 1


class Work(Protocol):
    """A collective on its way."""

    def wait(self, timeout: timedelta = ...) -> bool:
        """Until it is done; raises RuntimeError, also when that takes longer."""

    def is_completed(self) -> bool:
        """Whether it is done, well or not."""


class Group(Protocol):
    """What we ask of ProcessGroupGloo and ProcessGroupNCCL; torch's stubs leave it out."""

    def allreduce(self, tensors: list[Tensor]) -> Work:
        """Sum in place."""

    def broadcast(self, tensor: Tensor, root: int) -> Work:
        """Overwrite by the root's."""

    def abort(self) -> None:
        """On a GPU, end what is under way."""

    def shutdown(self) -> None:
        """Close the connections."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A member's place in an epoch."""

    device: torch.device
    epoch: int
    rank: int
    world_size: int
    rendezvous: str
    address: str
    collective_s: float


def form(place: Place, is_over: threading.Event) -> tuple[PrefixStore, Group]:
    """Meet the other members; a set `is_over` ends the wait for the first one."""
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
    prefixed = PrefixStore(f"e{place.epoch}", store)
    make = _nccl if place.device.type == "cuda" else _gloo
    return prefixed, make(prefixed, place, timeout)


def _gloo(store: PrefixStore, place: Place, timeout: timedelta) -> Group:
    options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._devices = [ProcessGroupGloo.create_device(hostname=place.address)]
    options._timeout = timeout
    options._threads = GLOO_THREADS
    return cast(Group, ProcessGroupGloo(store, place.rank, place.world_size, options))


def _nccl(store: PrefixStore, place: Place, timeout: timedelta) -> Group:
    """Connects at once, and without blocking, so that an abort can end that too.

    The process's environment must say that NCCL's own watchdog ends nothing (child.py): who is lost
    the agents decide. Source: torchft, ProcessGroupNCCL of process_group.py (2026).
    """
    from torch._C._distributed_c10d import ProcessGroupNCCL  # not in builds without CUDA

    options = ProcessGroupNCCL.Options()
    options.config.blocking = 0
    options._timeout = timeout
    group = ProcessGroupNCCL(store, place.rank, place.world_size, options)
    group.eager_connect_single_device(place.device)
    return cast(Group, group)


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


def word_of(store: PrefixStore, key: str) -> bytes | None:
    """A word that somebody has left; None if nobody does within a collective's time."""
    try:
        return store.get(key)
    except DistStoreError:
        return None


def sockets_here() -> frozenset[str]:
    """This process's sockets, as the kernel names them."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the folder's own descriptor is gone by now
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return frozenset(name for name in found if name.startswith("socket:"))


def cut(names: frozenset[str]) -> None:
    """Shut these connections down under who waits on them."""
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{number}") not in names:
                continue
            with socket.socket(fileno=os.dup(number)) as ours:
                # Gloo ends the process when its listener fails.
                if not ours.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    ours.shutdown(socket.SHUT_RDWR)


def guarded(call: Callable[[], Result]) -> Result:
    """Any fault of gloo or its store is a lost peer: RuntimeError is all they tell."""
    try:
        return call()
    except (RuntimeError, OSError) as fault:
        raise PeerLost(str(fault).splitlines()[0]) from fault
