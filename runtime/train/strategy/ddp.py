"""Data-parallel: every member holds all weights, gradients are summed in flat buckets.

The process group, gloo on CPUs and NCCL on GPUs, is made here, in this process, for one epoch; a
lost peer costs the group, never the process. A bucket sets out as soon as its gradients are there,
while backward goes on.
"""

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta

import torch
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore
from torch.utils.hooks import RemovableHandle

from runtime.limits import COLLECTIVE_S, INTERRUPT_AGAIN_S
from runtime.packing import packed
from runtime.train.device import device_of, settle
from runtime.train.strategy import PeerLost, words_max
from runtime.train.strategy.group import (
    Group,
    Place,
    Work,
    cut,
    form,
    guarded,
    sockets_here,
    word_of,
)

BUCKET_BYTES = 4 << 20
IN_TURNS = timedelta(seconds=INTERRUPT_AGAIN_S)


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
        self._place = Place(
            device=device_of(model),
            epoch=epoch,
            rank=rank,
            world_size=world_size,
            rendezvous=rendezvous,
            address=address,
            collective_s=collective_s,
        )
        self._is_gpu = self._place.device.type == "cuda"
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
        self._others = sockets_here()
        self._store, self._group = guarded(lambda: form(self._place, self._is_over))
        self._mine = sockets_here() - self._others
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
            self._await(work)
        total = room[: len(words)].to(words.device, words.dtype, copy=True)
        self._confirm()
        return total

    def sum(self, values: Tensor) -> Tensor:
        """An all-reduce of its own; waits for the buckets before it."""
        total = values.to(self._place.device, copy=True)
        self._await(self._reduce(total))
        total = total.to(values.device)
        self._confirm()
        return total

    def publish(self, key: str, value: str) -> None:
        """Leave a word for the others in the epoch's store."""
        store = self._store
        assert store is not None, "joined"
        guarded(lambda: store.set(key, value))

    def published(self, key: str) -> str:
        """Ask again whenever the store's own deadline, which is a collective's, has passed."""
        store = self._store
        assert store is not None, "joined"
        while True:
            self._check()
            word = guarded(lambda: word_of(store, key))
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
                cut(self._mine or sockets_here() - self._others)
                if self._group is not None and self._is_gpu:
                    self._group.abort()
            time.sleep(INTERRUPT_AGAIN_S)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """One after the other."""
        for tensor in tensors:
            self._await(self._broadcast(tensor))
            if self.rank == 0:
                self.bytes_sent += tensor.nbytes
        self._confirm()

    def close(self) -> None:
        """Take the hooks off and close the connections: a peer that waits on us fails at once."""
        for hook in self._hooks:
            hook.remove()
        for bucket in self._buckets:
            bucket.release()
        with self._closing:
            self._is_closed = True
            self._is_over.set()
            if self._group is not None and self._is_gpu:
                self._group.abort()
            elif any(not work.is_completed() for work in self._works):
                cut(self._mine)
                self._leave_behind()
            elif self._group is not None:
                self._group.shutdown()
        # The first member's store listens for as long as anybody holds it, and the group does too.
        self._works = []
        self._group = self._store = None

    def _leave_behind(self) -> None:
        """Dropping a group waits for what it has under way, up to its deadline: not here."""
        held: list[object] = [self._group, self._store, *self._works]
        self._works, self._group, self._store = [], None, None  # the thread drops the last of each
        threading.Thread(target=held.clear, name="left behind", daemon=True).start()

    def _await(self, work: Work) -> None:
        """Until it is done or the epoch is over; raises PeerLost.

        In turns: what gloo no longer wakes (see GLOO_THREADS) must not outlast its epoch.
        """
        if self._is_gpu:
            guarded(work.wait)
            return
        while not work.is_completed():
            with suppress(RuntimeError):  # not yet, or the fault that is raised below
                work.wait(IN_TURNS)
            if not work.is_completed():
                self._check()
        guarded(work.wait)

    def _confirm(self) -> None:
        """What is ended under way on a GPU looks like what is done."""
        if self._is_gpu:
            settle(self._place.device)
            self._check()

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
        self._reduce(bucket.flat)

    def _broadcast(self, tensor: Tensor) -> Work:
        group = self._group
        assert group is not None, "joined"
        return self._begun(guarded(lambda: group.broadcast(tensor, 0)))

    def _reduce(self, tensor: Tensor) -> Work:
        # What a ring sends per member: reduce-scatter and all-gather, (n-1)/n of the whole each.
        self.bytes_sent += 2 * tensor.nbytes * (self.world_size - 1) // self.world_size
        group = self._group
        assert group is not None, "joined"
        return self._begun(guarded(lambda: group.allreduce([tensor])))

    def _begun(self, work: Work) -> Work:
        self._works.append(work)
        return work


class _Bucket:
    """Some parameters whose gradients lie side by side, and room for some words after them."""

    def __init__(self, parameters: list[nn.Parameter], room: int = 0) -> None:
        self.parameters = parameters
        count = sum(p.numel() for p in parameters)
        self.flat = torch.zeros(
            count + room, dtype=parameters[0].dtype, device=parameters[0].device
        )
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
