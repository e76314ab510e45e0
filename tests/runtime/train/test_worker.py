"""Members whose state takes longer to come than any collective may: nobody is lost for it.

Workers are threads of one process here; stores, group and channel are real.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import torch

from runtime import checkpoint
from runtime.checkpoint import Manifest
from runtime.node_spec import StoreUrls
from runtime.objects import Store, file_url
from runtime.train import worker as module
from runtime.train.loop import Clock
from runtime.train.orders import Orders
from runtime.train.protocol import Epoch, Event, Formed, Paused, Stepped, Work
from runtime.train.state import tensors_of
from runtime.train.strategy.ddp import Ddp
from runtime.train.worker import Worker
from tests.runtime.train.group import Group, at_once
from tests.tiny import tiny_spec, write_texts

pytestmark = pytest.mark.usefixtures("one_thread")

COLLECTIVE_S = 1.0
LATE_S = 3.0
RUN = "run-1"


@dataclass
class Member:
    """A worker that pauses all after some steps of each epoch."""

    folder: Path
    group: Group
    rank: int
    said: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        texts = write_texts(self.folder / "texts")
        stores = self.folder / "stores"
        urls = {role: file_url(stores / role) for role in StoreUrls.model_fields}
        changes = {"steps": 1000, "checkpoint_every_steps": 1}
        work = Work(
            run=RUN,
            train=tiny_spec(texts, **changes),
            stores=StoreUrls(**urls),
            node=f"training-{self.rank}",
            address=f"{self.group.subnet}.{10 + self.rank}",
            folder=str(self.folder / f"node-{self.rank}"),
            key="ab" * 32,
        )
        Path(work.folder).mkdir()
        self.orders = Orders(self.said.append)
        clock = Clock(now=lambda: datetime.now(UTC), seconds=time.monotonic)
        self.worker = Worker(work, self.hear, clock)

    def hear(self, event: Event) -> None:
        """Enough steps were told of once there is one."""
        self.said.append(event)
        if isinstance(event, Stepped):
            self.orders.save_s = LATE_S
            self.orders.pause.set()

    def train(self, epoch: int, world_size: int, resume: tuple[int, ...], *holders: int) -> Paused:
        """One epoch to its pause."""
        order = Epoch(
            number=epoch,
            rank=self.rank,
            world_size=world_size,
            rendezvous=self.group.rendezvous(epoch),
            resume_steps=resume,
            holders=holders,
        )
        self.worker.train(order, self.orders)
        outcome = self.said[-1]
        assert isinstance(outcome, Paused), outcome
        return outcome

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """What it has in memory."""
        return tensors_of(self.worker._model, self.worker._optimizer)


@pytest.fixture
def members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Member]:
    """Two of one run; their collectives wait for a moment only."""
    monkeypatch.setattr(module, "Ddp", partial(Ddp, collective_s=COLLECTIVE_S))
    group = Group()
    return [Member(tmp_path, group, rank) for rank in range(2)]


def equal(one: Member, other: Member) -> bool:
    """To the last bit."""
    return all(torch.equal(value, other.tensors[name]) for name, value in one.tensors.items())


def test_a_newcomer_may_take_its_time_over_the_state(
    members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, newcomer = members
    alone = first.train(0, 1, (0,))
    state_bytes = sum(tensor.nbytes for tensor in first.tensors.values())
    monkeypatch.setattr(module, "STATE_BYTES_PER_S", state_bytes / LATE_S)
    began_s = time.monotonic()

    together = at_once(2, lambda rank: members[rank].train(1, 2, (0, alone.step), 0))

    assert time.monotonic() - began_s > LATE_S > COLLECTIVE_S
    assert together[0] == together[1]
    assert together[0].step > alone.step
    assert equal(first, newcomer)
    formed = [event.fetched for event in newcomer.said if isinstance(event, Formed)]
    assert formed == [False, True]


def test_a_stored_state_may_take_its_time(
    members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = members
    alone = first.train(0, 1, (0,))
    read: Callable[[Store, Manifest], Iterator[bytes]] = checkpoint.read

    def slowly(store: Store, manifest: Manifest) -> Iterator[bytes]:
        time.sleep(LATE_S)
        return read(store, manifest)

    monkeypatch.setattr(checkpoint, "read", slowly)

    together = at_once(2, lambda rank: members[rank].train(1, 2, (0, alone.step)))

    assert together[0] == together[1]
    assert together[0].step > alone.step
    assert equal(first, second)
