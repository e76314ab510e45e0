"""The second candidate: the official release archive, fetched and compared with its digest."""

import hashlib
import queue
import shutil
import tarfile
import threading
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from infra.engine.cache import Report
from infra.engine.path import HOST
from infra.engine.release import SHA256, SHA256_VARIABLE, VERSION
from runtime.errors import Refused

ARCHIVES = "https://get.pulumi.com/releases/sdk"
ARCHIVES_VARIABLE = "ATOLL_PULUMI_ARCHIVES"  # a mirror
ANSWER_S = 4.0  # until the first byte of an answer, name look-up included
STALL_S = 30.0  # longest silence in the middle of a download
ARCHIVE_BYTES_MAX = 1 << 30
CHUNK_BYTES = 1 << 20
REPORTS = 5  # progress lines of one download
DIGEST_CHARACTERS = 64


def fetch_archive(folder: Path, platform: str, environ: Mapping[str, str], report: Report) -> None:
    """Put the programs of the pinned release in a folder; raises Refused with the reason."""
    digest = environ.get(SHA256_VARIABLE) or SHA256.get(platform)
    url = f"{environ.get(ARCHIVES_VARIABLE) or ARCHIVES}/pulumi-v{VERSION}-{platform}.tar.gz"
    if digest is None:
        raise Refused(
            f"no SHA-256 is pinned for {VERSION} on {platform}, so it is not fetched; "
            f"to fetch it, set {SHA256_VARIABLE} to the digest of {url}"
        )
    if len(digest) != DIGEST_CHARACTERS or urlsplit(url).scheme not in ("https", "http"):
        raise Refused(f"{url} with digest {digest!r}: allowed an http(s) address and a SHA-256")
    archive = folder / "archive.tar.gz"
    try:
        with _answer(url) as answer:
            found = _download(answer, archive, report)
        if found != digest.lower():
            raise Refused(f"{url}: found SHA-256 {found}; allowed {digest}; nothing of it is kept")
        _unpack(archive, folder)
    except (OSError, HTTPException, tarfile.TarError) as fault:
        raise Refused(f"{url}: {fault}") from fault
    finally:
        archive.unlink(missing_ok=True)
    if not (folder / "pulumi").is_file() or not (folder / HOST).is_file():
        raise Refused(f"{url}: found no pulumi or no {HOST} in it")


def _answer(url: str) -> HTTPResponse:
    """The answer's head within ANSWER_S. In a thread: looking up a name knows no time limit."""
    answers: queue.SimpleQueue[HTTPResponse | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(url, timeout=STALL_S))  # noqa: S310 scheme is checked
        except (OSError, HTTPException, ValueError) as fault:
            answers.put(fault)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=ANSWER_S)
    except queue.Empty:
        raise Refused(f"{url}: no answer within {ANSWER_S:.0f} s") from None
    if isinstance(answer, Exception):
        raise Refused(f"{url}: {answer}") from answer
    return answer


def _download(answer: HTTPResponse, archive: Path, report: Report) -> str:
    """Write the body to a file; its SHA-256."""
    total = int(answer.headers.get("Content-Length") or 0)
    digest, done, told = hashlib.sha256(), 0, 0
    report(f"fetching Pulumi {VERSION}, {total / 1e6:.0f} MB")
    with archive.open("wb") as file:
        while chunk := answer.read(CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
            done += len(chunk)
            if done > ARCHIVE_BYTES_MAX:
                raise Refused(f"more than {ARCHIVE_BYTES_MAX} bytes")
            if total and done * REPORTS // total > told:
                told = done * REPORTS // total
                report(f"fetching Pulumi {VERSION}: {100 * done // total} %")
    if total and done != total:
        raise Refused(f"{answer.url}: it broke off after {done} of {total} bytes")
    return digest.hexdigest()


def _unpack(archive: Path, folder: Path) -> None:
    """The archive holds `pulumi/<program>` and no folders: names are taken, never paths."""
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts
            source = tar.extractfile(member) if member.isfile() and len(parts) == 2 else None
            if source is None or parts[0] != "pulumi":
                continue
            target = folder / parts[1]
            with source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
            target.chmod(0o755)
