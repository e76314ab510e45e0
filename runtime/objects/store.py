"""A store of bytes by key, over obstore.

Retries live here and nowhere else, except for the parts of a large put: only obstore knows them.
A write whose answer was lost is doubtful. An overwriting put is then written again; a
put-if-absent that afterwards meets an object reads it, since it may be its own. So what is put if
absent must tell its writer from all others, by a nonce: two writers of equal bytes may both win.
A write that was given up may still arrive: readers see the old object or the new one.
"""

import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import ObjectStore

from runtime.errors import AtollError, Corrupt, Missing, Refused, Unavailable
from runtime.limits import (
    STORE_CHANGES_MAX,
    STORE_PART_BYTES,
    STORE_PARTS_AT_ONCE,
    STORE_PARTS_MAX,
)
from runtime.objects.answers import Answer, answer_of, told
from runtime.objects.patience import Patience

KEY = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")
WHAT_TO_DO = {
    "s3": "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, or give the role the right; "
    "an address without TLS needs AWS_ALLOW_HTTP",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or give the service account the right; "
    "an address without TLS needs GOOGLE_ALLOW_HTTP",
    "az": "set AZURE_STORAGE_ACCOUNT_KEY, or give the managed identity the right; "
    "an address without TLS needs AZURE_ALLOW_HTTP",
}

Result = TypeVar("Result")
Write = Callable[[int, memoryview], None]  # bytes at an offset


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectInfo:
    """What a store says about an object, by its own clock."""

    key: str
    size_bytes: int
    last_modified: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opened:
    """An object that a get has met: its bytes if they are few, else what to ask the parts by."""

    size_bytes: int
    e_tag: str | None
    content: memoryview | None


class Store:
    """Objects under one URL. Safe to share between threads.

    Without patience each call is tried once: what a folder answers now it answers later.
    """

    def __init__(
        self,
        url: str,
        backend: ObjectStore,
        *,
        large: ObjectStore | None = None,  # the same store for puts in parts
        patience: Patience | None = None,
    ) -> None:
        self.url = url
        self._backend = backend
        self._large = large or backend
        self._patience = patience

    def get(self, key: str) -> bytes:
        """The whole object; raises Missing or Unavailable."""
        parts: dict[int, memoryview] = {}
        self._fetch(key, parts.clear, parts.__setitem__)
        return b"".join(parts[start] for start in sorted(parts))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """`length` bytes from `start`; raises Missing, Unavailable, or Corrupt if it is shorter."""

        def fetch() -> bytes:
            found = obstore.get_range(self._backend, _checked(key), start=start, length=length)
            return found.to_bytes()

        found = self._ask(key, fetch)
        if len(found) != length:
            raise Corrupt(f"{self.url}/{key}: found {len(found)} bytes from {start}, not {length}")
        return found

    def get_file(self, key: str, path: Path) -> None:
        """Bring the object into a file, which is complete or absent."""
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("wb") as out:
                self._fetch(
                    key,
                    lambda: out.truncate(0),
                    lambda start, content: _write_at(out.fileno(), start, content),
                )
            partial.replace(path)
        except OSError as fault:
            partial.unlink(missing_ok=True)
            raise Unavailable(f"{path}: {fault.strerror}") from fault
        except AtollError:
            partial.unlink(missing_ok=True)
            raise

    def head(self, key: str) -> ObjectInfo:
        """Size and time of last write by the store's own clock; raises Missing or Unavailable."""
        meta = self._ask(key, lambda: obstore.head(self._backend, _checked(key)))
        return ObjectInfo(key=key, size_bytes=meta["size"], last_modified=meta["last_modified"])

    def put(self, key: str, data: bytes | memoryview | Path) -> None:
        """Write or overwrite. What is large goes in parts, a file without being read whole.

        A buffer must not change before the call returns.
        """
        if isinstance(data, memoryview):
            data = data.cast("B")
        size_bytes = data.stat().st_size if isinstance(data, Path) else len(data)
        if size_bytes <= STORE_PART_BYTES:
            content = data.read_bytes() if isinstance(data, Path) else data
            self._ask(
                key,
                lambda: obstore.put(self._backend, _checked(key), content, use_multipart=False),
            )
            return
        self._ask(
            key,
            lambda: obstore.put(
                self._large,
                _checked(key),
                data,
                use_multipart=True,
                chunk_size=part_bytes(size_bytes),
                max_concurrency=STORE_PARTS_AT_ONCE,
            ),
        )

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless something is there; False if so. The one primitive behind all decisions."""
        is_doubtful = False

        def write() -> bool:
            nonlocal is_doubtful
            try:
                obstore.put(self._backend, _checked(key), data, mode="create")
            except (BaseError, OSError) as fault:
                answer = answer_of(fault)
                if answer is not Answer.EXISTS:
                    is_doubtful = is_doubtful or answer is Answer.DOUBTFUL
                    raise
                return is_doubtful and self._holds(key, data)
            return True

        return self._ask(key, write)

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

    def _fetch(self, key: str, begin: Callable[[], object], write: Write) -> None:
        """Write the object's bytes, from several threads; `begin` forgets what was written."""
        for _ in range(STORE_CHANGES_MAX):
            begin()
            opened = self._ask(key, lambda: self._open(key))
            if opened.content is not None:
                write(0, opened.content)
                return
            if self._fetch_parts(key, opened, write):
                return
        raise Unavailable(f"{self.url}/{key}: was overwritten {STORE_CHANGES_MAX} times meanwhile")

    def _fetch_parts(self, key: str, opened: _Opened, write: Write) -> bool:
        """False if another object has taken its place."""
        parts = range(0, opened.size_bytes, STORE_PART_BYTES)

        def fetch(start: int) -> None:
            end = min(start + STORE_PART_BYTES, opened.size_bytes)
            write(start, self._ask(key, lambda: self._part(key, opened, start, end)))

        with ThreadPoolExecutor(min(STORE_PARTS_AT_ONCE, len(parts))) as threads:
            try:
                for _ in threads.map(fetch, parts):
                    pass
            except PreconditionError:
                threads.shutdown(cancel_futures=True)
                return False
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise
        return True

    def _open(self, key: str) -> _Opened:
        found = obstore.get(self._backend, _checked(key))
        meta = found.meta
        is_small = meta["size"] <= STORE_PART_BYTES
        return _Opened(
            size_bytes=meta["size"],
            e_tag=meta["e_tag"],
            content=memoryview(found.bytes()) if is_small else None,
        )

    def _part(self, key: str, opened: _Opened, start: int, end: int) -> memoryview:
        options: obstore.GetOptions = {"range": (start, end)}
        if opened.e_tag is not None:
            options["if_match"] = opened.e_tag
        return memoryview(obstore.get(self._backend, key, options=options).bytes())

    def _holds(self, key: str, data: bytes) -> bool:
        """Whether an object that is said to be there has these bytes."""
        try:
            return obstore.get(self._backend, key).bytes().to_bytes() == data
        except FileNotFoundError:
            return False

    def _ask(self, key: str, call: Callable[[], Result]) -> Result:
        if self._patience is None:
            return self._try(key, call)
        for _ in self._patience.tries():
            try:
                return self._try(key, call)
            except Unavailable as fault:
                last = fault
        raise Unavailable(f"{last}; tried for {self._patience.total_s:g} s") from last

    def _try(self, key: str, call: Callable[[], Result]) -> Result:
        try:
            return call()
        except PreconditionError as fault:
            if answer_of(fault) is Answer.EXISTS:
                raise
            raise Unavailable(f"{self.url}/{key}: {told(fault)}") from fault
        except (BaseError, OSError) as fault:
            raise self._meaning(key, fault) from fault

    def _meaning(self, key: str, fault: BaseException) -> AtollError:
        scheme = urlsplit(self.url).scheme
        match answer_of(fault):
            case Answer.MISSING:
                return Missing(f"{self.url}/{key}: not there")
            case Answer.NO_STORE:
                return Refused(f"{self.url}: found no such bucket; make it, or name another")
            case Answer.SHORT:
                return Corrupt(f"{self.url}/{key}: ends before the range that was asked for")
            case Answer.REFUSED if scheme in WHAT_TO_DO:
                return Refused(f"{self.url}/{key}: found {told(fault)}; {WHAT_TO_DO[scheme]}")
            case _:
                return Unavailable(f"{self.url}/{key}: {told(fault)}")


def part_bytes(size_bytes: int) -> int:
    """Of a large object: the usual size, or more if there would be too many parts."""
    return max(STORE_PART_BYTES, -(-size_bytes // STORE_PARTS_MAX))


def file_url(folder: Path) -> str:
    """The URL of a folder store."""
    return "file://" + quote(str(folder.absolute()))


def folder_of(url: str) -> Path:
    """The folder behind a file:// URL."""
    return Path(unquote(urlsplit(url).path))


def _write_at(file: int, start: int, content: memoryview) -> None:
    while content:
        written = os.pwrite(file, content, start)
        start, content = start + written, content[written:]


def _checked(key: str) -> str:
    assert KEY.fullmatch(key), f"a key of ours can't be {key!r}"
    return key
