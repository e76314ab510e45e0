"""runtime/ → a deterministic archive, named by its SHA-256.

The same tree gives the same bytes on every machine: sorted names, no times, owners or modes of the
file system, and no compression, whose bytes differ between versions of zlib.
"""

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

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
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in files:
            content = path.read_bytes()
            member = tarfile.TarInfo(path.relative_to(root).as_posix())
            member.size, member.mode = len(content), MODE
            archive.addfile(member, io.BytesIO(content))
    data = packed.getvalue()
    return Bundle(data=data, sha256=hashlib.sha256(data).hexdigest())
