"""Folder stores that fail, wait or tell when a test wants it. What they hold is real."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

from obstore.store import LocalStore

from runtime.errors import Unavailable
from runtime.objects import ObjectInfo, Store, file_url

Operation = Literal["get", "head", "list", "put", "put_if_absent", "delete"]
Hook = Callable[[Operation, str], None]

Result = TypeVar("Result")


def pass_on(operation: Operation, key: str) -> None:
    """The hook that does nothing."""


def refuse(*operations: Operation, within: str = "") -> Hook:
    """A hook: these operations, on keys that hold `within`, get no answer."""

    def hook(operation: Operation, key: str) -> None:
        if operation in operations and within in key:
            raise Unavailable(f"{operation} {key}: away")

    return hook


def refuse_call(number: int) -> Hook:
    """A hook: one call gets no answer, the first being 1."""
    calls = 0

    def hook(operation: Operation, key: str) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            raise Unavailable(f"{operation} {key}: away")

    return hook


class HookedStore(Store):
    """Calls `before` ahead of each operation and `after` once it is carried out; both may raise.

    What raises `before` has not happened; what raises `after` has, but its answer is lost.
    """

    def __init__(self, folder: Path, *, before: Hook = pass_on, after: Hook = pass_on) -> None:
        super().__init__(file_url(folder), LocalStore(folder, mkdir=True))
        self.before = before
        self.after = after

    def get(self, key: str) -> bytes:
        """As a folder store does."""
        get = super().get
        return self._told("get", key, lambda: get(key))

    def head(self, key: str) -> ObjectInfo:
        """As a folder store does."""
        head = super().head
        return self._told("head", key, lambda: head(key))

    def put(self, key: str, data: bytes | memoryview | Path) -> None:
        """As a folder store does."""
        put = super().put
        self._told("put", key, lambda: put(key, data))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """As a folder store does."""
        put_if_absent = super().put_if_absent
        return self._told("put_if_absent", key, lambda: put_if_absent(key, data))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """As a folder store does, all at once."""
        found = super().list
        yield from self._told("list", prefix, lambda: [*found(prefix)])

    def delete(self, key: str) -> None:
        """As a folder store does."""
        delete = super().delete
        self._told("delete", key, lambda: delete(key))

    def _told(self, operation: Operation, key: str, call: Callable[[], Result]) -> Result:
        self.before(operation, key)
        result = call()
        self.after(operation, key)
        return result
