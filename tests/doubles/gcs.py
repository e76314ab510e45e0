"""Google Cloud Storage as far as obstore asks it: the XML API, in memory.

It honours `x-goog-if-generation-match`, asks for a bearer token that it knows, and answers as the
service's own documents say. Not covered: the JSON API, versions, access lists, resumable uploads.
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

PAGE_KEYS = 2  # so that a listing has pages
FIRST_GENERATION = 1_700_000_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Object:
    """One generation of an object."""

    content: bytes
    generation: int
    written: datetime

    @property
    def e_tag(self) -> str:
        """By content, as the service makes it of objects that were put whole."""
        return f'"{hashlib.md5(self.content, usedforsecurity=False).hexdigest()}"'

    @property
    def headers(self) -> dict[str, str]:
        """What every answer about it says."""
        return {
            "ETag": self.e_tag,
            "x-goog-generation": str(self.generation),
            "Last-Modified": format_datetime(self.written, usegmt=True),
        }


@dataclass(slots=True)
class Bucket:
    """What all threads share; `lock` makes each call one step."""

    token: str
    name: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    objects: dict[str, Object] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    generation: int = FIRST_GENERATION

    def write(self, key: str, content: bytes) -> Object:
        """The next generation of an object."""
        self.generation += 1
        self.objects[key] = Object(
            content=content, generation=self.generation, written=datetime.now(UTC)
        )
        return self.objects[key]


class FakeGcs:
    """Serves one bucket on 127.0.0.1 until it is closed."""

    def __init__(self, bucket: str, token: str) -> None:
        self.bucket = Bucket(token=token, name=bucket)
        handler = type("Handler", (_Handler,), {"bucket": self.bucket})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no event."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body go out together
    bucket: ClassVar[Bucket]

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        split = urlsplit(self.path)
        bucket, _, key = unquote(split.path).lstrip("/").partition("/")
        query = {name: found[0] for name, found in parse_qs(split.query, True).items()}
        if self.headers.get("Authorization") != f"Bearer {self.bucket.token}":
            self._fail(401, "AuthenticationRequired")
        elif bucket != self.bucket.name:
            self._fail(404, "NoSuchBucket")
        else:
            with self.bucket.lock:
                answer = self._call(key, query, body)
            answer()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815

    def _call(self, key: str, query: dict[str, str], body: bytes) -> Callable[[], None]:
        """Carry a call out; the answer is sent when the lock is free again."""
        match self.command:
            case "GET" if not key:
                return self._list(query)
            case "GET" | "HEAD":
                return self._read(key)
            case "PUT" if "partNumber" in query:
                return self._put_part(query, body)
            case "PUT":
                return self._put(key, body)
            case "POST" if "uploads" in query:
                return self._begin_upload(key)
            case "POST":
                return self._end_upload(key, query, body)
            case _ if "uploadId" in query:
                self.bucket.uploads.pop(query["uploadId"], None)
                return lambda: self._answer(204)
            case _:
                return self._delete(key)

    def _unmet(self, key: str) -> bool:
        """Whether a precondition on the generation is not met; 0 means absent."""
        wanted = self.headers.get("x-goog-if-generation-match")
        there = self.bucket.objects.get(key)
        return wanted is not None and int(wanted) != (there.generation if there else 0)

    def _put(self, key: str, body: bytes) -> Callable[[], None]:
        if self._unmet(key):
            return lambda: self._fail(412, "PreconditionFailed")
        headers = self.bucket.write(key, body).headers
        return lambda: self._answer(200, headers=headers)

    def _read(self, key: str) -> Callable[[], None]:
        there = self.bucket.objects.get(key)
        if there is None:
            return lambda: self._fail(404, "NoSuchKey")
        if self.headers.get("If-Match") not in (None, there.e_tag):
            return lambda: self._fail(412, "PreconditionFailed")
        asked = self.headers.get("Range")
        if asked is None:
            return lambda: self._answer(200, there.content, there.headers)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        size = len(there.content)
        if int(first) >= size:
            return lambda: self._fail(416, "InvalidRange")
        content = there.content[int(first) : int(last) + 1 if last else size]
        said = {"Content-Range": f"bytes {first}-{int(first) + len(content) - 1}/{size}"}
        return lambda: self._answer(206, content, there.headers | said)

    def _delete(self, key: str) -> Callable[[], None]:
        if self.bucket.objects.pop(key, None) is None:
            return lambda: self._fail(404, "NoSuchKey")
        return lambda: self._answer(204)

    def _list(self, query: dict[str, str]) -> Callable[[], None]:
        after = query.get("continuation-token") or query.get("start-after") or ""
        keys = sorted(
            key
            for key in self.bucket.objects
            if key.startswith(query.get("prefix", "")) and key > after
        )
        page = keys[:PAGE_KEYS]
        contents = "".join(self._listed(key) for key in page)
        is_last = len(page) == len(keys)
        token = "" if is_last else f"<NextContinuationToken>{page[-1]}</NextContinuationToken>"
        text = f"<ListBucketResult>{token}{contents}</ListBucketResult>"
        return lambda: self._answer(200, text.encode())

    def _listed(self, key: str) -> str:
        there = self.bucket.objects[key]
        return (
            f"<Contents><Key>{escape(key)}</Key><Size>{len(there.content)}</Size>"
            f"<LastModified>{there.written.isoformat().replace('+00:00', 'Z')}</LastModified>"
            f"<ETag>{escape(there.e_tag)}</ETag></Contents>"
        )

    def _begin_upload(self, key: str) -> Callable[[], None]:
        self.bucket.generation += 1
        upload = f"upload-{self.bucket.generation}"
        self.bucket.uploads[upload] = {}
        text = (
            f"<InitiateMultipartUploadResult><Bucket>{self.bucket.name}</Bucket>"
            f"<Key>{escape(key)}</Key><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
        )
        return lambda: self._answer(200, text.encode())

    def _put_part(self, query: dict[str, str], body: bytes) -> Callable[[], None]:
        parts = self.bucket.uploads.get(query["uploadId"])
        if parts is None:
            return lambda: self._fail(404, "NoSuchUpload")
        parts[int(query["partNumber"])] = body
        digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
        return lambda: self._answer(200, headers={"ETag": f'"{digest}"'})

    def _end_upload(self, key: str, query: dict[str, str], body: bytes) -> Callable[[], None]:
        parts = self.bucket.uploads.pop(query["uploadId"], None)
        if parts is None:
            return lambda: self._fail(404, "NoSuchUpload")
        numbers = [
            int(node.text or 0)
            for node in ElementTree.fromstring(body).iter()
            if node.tag.endswith("PartNumber")
        ]
        written = self.bucket.write(key, b"".join(parts[number] for number in numbers))
        text = (
            f"<CompleteMultipartUploadResult><Bucket>{self.bucket.name}</Bucket>"
            f"<Key>{escape(key)}</Key><ETag>{escape(written.e_tag)}</ETag>"
            "</CompleteMultipartUploadResult>"
        )
        return lambda: self._answer(200, text.encode(), written.headers)

    def _fail(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code></Error>".encode())

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()
