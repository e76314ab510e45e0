"""A store of bytes by key, over obstore.

Retries live here and nowhere else. A put-if-absent whose answer was lost may have won, so the
caller puts a nonce of its own into the object and reads it back (`runtime.coordination.log` does).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import LocalStore, ObjectStore, from_url

from runtime.errors import Missing, Refused, Unavailable

KEY = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")
RETRIES_MAX = 4
RETRY_S = 10.0
REQUEST_S = "30s"

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectInfo:
    """What a store says about an object, by its own clock."""

    key: str
    size_bytes: int
    last_modified: datetime


class Store:
    """Objects under one URL. Safe to share between threads."""

    def __init__(self, url: str, backend: ObjectStore) -> None:
        self.url = url
        self._backend = backend

    def get(self, key: str) -> bytes:
        """The whole object; raises Missing or Unavailable."""
        return self._ask(key, lambda: obstore.get(self._backend, _checked(key)).bytes().to_bytes())

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """`length` bytes from `start`; raises Missing or Unavailable."""
        return self._ask(
            key,
            lambda: obstore.get_range(
                self._backend, _checked(key), start=start, length=length
            ).to_bytes(),
        )

    def get_file(self, key: str, path: Path) -> None:
        """Stream the object into a file, which is complete or absent."""
        partial = path.with_name(path.name + ".partial")

        def fetch() -> None:
            with partial.open("wb") as out:
                for chunk in obstore.get(self._backend, _checked(key)).stream():
                    out.write(memoryview(chunk))
            partial.replace(path)

        self._ask(key, fetch)

    def head(self, key: str) -> ObjectInfo:
        """Size and time of last write by the store's own clock; raises Missing or Unavailable."""
        meta = self._ask(key, lambda: obstore.head(self._backend, _checked(key)))
        return ObjectInfo(key=key, size_bytes=meta["size"], last_modified=meta["last_modified"])

    def put(self, key: str, data: bytes | Path) -> None:
        """Write or overwrite; large files go in parts."""
        self._ask(key, lambda: obstore.put(self._backend, _checked(key), data))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless something is there; False if so. The one primitive behind all decisions."""
        try:
            self._ask(key, lambda: obstore.put(self._backend, _checked(key), data, mode="create"))
        except (AlreadyExistsError, PreconditionError):
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects below `prefix`, a whole path segment; may lag behind writes."""
        pages = self._ask(prefix, lambda: list(obstore.list(self._backend, prefix or None)))
        for page in pages:
            for meta in page:
                yield ObjectInfo(
                    key=meta["path"], size_bytes=meta["size"], last_modified=meta["last_modified"]
                )

    def delete(self, key: str) -> None:
        """Remove; no error if it is not there."""
        try:
            self._ask(key, lambda: obstore.delete(self._backend, _checked(key)))
        except Missing:
            return

    def _ask(self, key: str, call: Callable[[], Result]) -> Result:
        try:
            return call()
        except (AlreadyExistsError, PreconditionError):
            raise
        except FileNotFoundError:
            raise Missing(f"{self.url}/{key}: not there") from None
        except (BaseError, OSError) as fault:
            first_line = str(fault).splitlines()[0]
            raise Unavailable(f"{self.url}/{key}: {first_line}") from fault


def open_store(url: str) -> Store:
    """Open the store at `url`; a folder is made. Raises Refused, or Unavailable if it can't be."""
    if urlsplit(url).scheme == "file":
        try:
            return Store(url, LocalStore(folder_of(url), mkdir=True))
        except OSError as fault:
            raise Unavailable(f"{url}: {fault}") from fault
    if urlsplit(url).scheme not in {"s3", "gs", "az"}:
        raise Refused(f"store: found {url!r}; allowed s3://, gs://, az:// or file://")
    backend = from_url(
        url,
        client_options={"timeout": REQUEST_S},
        retry_config={"max_retries": RETRIES_MAX, "retry_timeout": timedelta(seconds=RETRY_S)},
    )
    return Store(url, backend)


def file_url(folder: Path) -> str:
    """The URL of a folder store."""
    return "file://" + quote(str(folder.absolute()))


def folder_of(url: str) -> Path:
    """The folder behind a file:// URL."""
    return Path(unquote(urlsplit(url).path))


def _checked(key: str) -> str:
    assert KEY.fullmatch(key), f"a key of ours can't be {key!r}"
    return key
