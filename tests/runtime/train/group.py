"""Members of one epoch as threads of one process: gloo and its sockets are real."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from torch import nn

from runtime.coordination.next_epoch import rendezvous
from runtime.train.strategy import Strategy
from runtime.train.strategy.ddp import Ddp
from runtime.train.strategy.local import Local
from tests.subnet import Subnet

WAIT_S = 60.0
COLLECTIVE_S = 30.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Group:
    """Where members meet."""

    subnet: Subnet = field(default_factory=Subnet)

    def rendezvous(self, epoch: int = 0) -> str:
        """Where the members of an epoch meet."""
        return rendezvous(f"{self.subnet}.10", epoch)

    def join(
        self,
        model: nn.Module,
        rank: int,
        world_size: int,
        *,
        epoch: int = 0,
        collective_s: float = COLLECTIVE_S,
    ) -> Strategy:
        """As a worker does: alone, a member needs nobody."""
        member = self.member(model, rank, world_size, epoch=epoch, collective_s=collective_s)
        member.join()
        return member

    def member(
        self,
        model: nn.Module,
        rank: int,
        world_size: int,
        *,
        epoch: int = 0,
        collective_s: float = COLLECTIVE_S,
    ) -> Strategy:
        """One that has not joined yet."""
        if world_size == 1:
            return Local(model)
        return Ddp(
            model,
            epoch=epoch,
            rank=rank,
            world_size=world_size,
            rendezvous=self.rendezvous(epoch),
            address=f"{self.subnet}.{10 + rank}",
            collective_s=collective_s,
        )


def at_once(members: int, work: Callable[[int], Result]) -> list[Result]:
    """What each member's work returns; the first fault of any, once all have ended."""
    results: dict[int, Result] = {}
    faults: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            results[rank] = work(rank)
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=run, args=(r,), daemon=True) for r in range(members)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive(), f"a member has not ended within {WAIT_S:.0f} s"
    if faults:
        raise faults[0]
    return [results[rank] for rank in range(members)]
