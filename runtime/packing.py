"""Things of different sizes put together: shards of a checkpoint, buckets of gradients."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def packed(
    items: Iterable[Item], size_of: Callable[[Item], int], bytes_max: int
) -> Iterator[list[Item]]:
    """Items in their order, as many together as fit; one that is larger alone."""
    part: list[Item] = []
    size = 0
    for item in items:
        if part and size + size_of(item) > bytes_max:
            yield part
            part, size = [], 0
        part.append(item)
        size += size_of(item)
    if part:
        yield part
