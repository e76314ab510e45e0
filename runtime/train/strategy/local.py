"""A world of one: gradients are whole as they are."""

from collections.abc import Iterable

from torch import Tensor, nn


class Local:
    """Strategy of a single member."""

    rank = 0
    world_size = 1
    bytes_sent = 0

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def join(self) -> None:
        """Nobody to meet."""

    def begin(self) -> None:
        """Drop the gradients."""
        self._model.zero_grad()

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Add."""
        loss.backward()  # type: ignore[no-untyped-call]

    def finish(self, words: Tensor) -> Tensor:
        """Nobody to wait for."""
        return words

    def sum(self, values: Tensor) -> Tensor:
        """The value itself."""
        return values

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Nobody to tell."""

    def publish(self, key: str, value: str) -> None:
        """Nobody to tell."""

    def published(self, key: str) -> str:
        """Nobody speaks."""
        raise AssertionError("a world of one has no peers")

    def interrupt(self) -> None:
        """Nothing to wait for."""

    def close(self) -> None:
        """Nobody to leave."""
