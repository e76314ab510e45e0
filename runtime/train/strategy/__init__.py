"""How the members' gradients meet. Elasticity lies below: a strategy lives for one epoch."""

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor

WORDS = 8


class Strategy(Protocol):
    """One member's side. Any method may raise PeerLost."""

    rank: int
    world_size: int
    bytes_sent: int  # by this member since the strategy was made

    def join(self) -> None:
        """Meet the other members; before anything else."""

    def begin(self) -> None:
        """Before the first micro-batch of a step: gradients are zero."""

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Add the gradients of a micro-batch; after the last one they may set out."""

    def finish(self, words: Tensor) -> Tensor:
        """After this the gradients are the sum over all members.

        Returns the sum of `words`, which travel with them: the same number on all members, at most
        `words_max` of them.
        """

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a small tensor over all members, beside a step."""

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite in place by the first member's."""

    def publish(self, key: str, value: str) -> None:
        """Leave a word for the other members."""

    def published(self, key: str) -> str:
        """Wait for a word of another member, however long that takes while it is well."""

    def interrupt(self) -> None:
        """From another thread: whoever waits in this strategy gets PeerLost at once."""

    def close(self) -> None:
        """Leave; peers that wait notice at once."""


def words_max(world_size: int) -> int:
    """How many numbers a step's gradients may bring along: one of each member, and a few of all."""
    return world_size + WORDS


class PeerLost(Exception):
    """A collective failed: a member died or was cut off. The step was not applied."""


class Diverged(PeerLost):
    """The members' weights are not the same any more, and this member's may be the wrong ones."""
