"""runtime/ and texts → deterministic archives, named by their SHA-256.

The same tree gives the same bytes on every machine: sorted names, no times, owners or modes of the
file system, and no compression, whose bytes differ between versions of zlib.
"""

import hashlib
import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from runtime.errors import Refused
from runtime.limits import TEXT_BYTES_MAX
from runtime.text_files import text_files

PACKAGE = "runtime"
SUFFIXES = {".py", ".lock"}
MODE = 0o644


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """The runtime as bytes."""

    data: bytes
    sha256: str


def build_bundle(root: Path) -> Bundle:
    """Pack `root`/runtime: its modules and the lock that nodes install."""
    files = sorted(
        path
        for path in (root / PACKAGE).rglob("*")
        if path.suffix in SUFFIXES and "__pycache__" not in path.parts
    )
    return _packed(root, files)


def build_texts(path: Path) -> Bundle:
    """Pack a file, or the files below a folder but for hidden ones.

    Raises Refused where they can't be read or are more than nodes take.
    """
    root = path if path.is_dir() else path.parent
    try:
        files = sorted(text_files(path))
        size_bytes = sum(file.stat().st_size for file in files)
        if size_bytes > TEXT_BYTES_MAX:
            raise Refused(
                f"training.data: found {size_bytes} bytes in {path}; allowed {TEXT_BYTES_MAX}; "
                "name a smaller folder"
            )
        return _packed(root, files)
    except OSError as fault:
        raise Refused(f"training.data: {fault.strerror} at {fault.filename or path}") from fault


@cache
def texts_once(path: Path) -> Bundle:
    """The same, read once in a process: what is named by its digest is what is sent."""
    return build_texts(path)


def _packed(root: Path, files: Sequence[Path]) -> Bundle:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in files:
            content = path.read_bytes()
            member = tarfile.TarInfo(path.relative_to(root).as_posix())
            member.size, member.mode = len(content), MODE
            archive.addfile(member, io.BytesIO(content))
    data = packed.getvalue()
    return Bundle(data=data, sha256=hashlib.sha256(data).hexdigest())
