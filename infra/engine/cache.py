"""Engines that were fetched or built: one folder per version and platform, shared by all clones.

A folder is made beside its place and renamed, so it is whole or not there; a lock of the kernel
lets one process make it while others wait.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from infra.engine.release import VERSION, Engine, Origin
from runtime.errors import Refused

ORIGIN_FILE = "origin"
ORIGINS: Mapping[str, Origin] = {"archive": "archive", "built": "built"}

Report = Callable[[str], None]


def cache_folder(environ: Mapping[str, str]) -> Path:
    """`$XDG_CACHE_HOME/atoll/engine`, or under ~/.cache."""
    base = environ.get("XDG_CACHE_HOME") or os.path.join(
        environ.get("HOME") or os.path.expanduser("~"), ".cache"
    )
    return Path(base).absolute() / "atoll" / "engine"


def cached_engine(folder: Path) -> Engine | None:
    """The engine in a folder of the cache, if there is one."""
    try:
        origin = ORIGINS[(folder / ORIGIN_FILE).read_text().strip()]
    except (OSError, KeyError):
        return None
    pulumi = folder / "pulumi"
    return Engine(pulumi=pulumi, version=VERSION, origin=origin) if pulumi.is_file() else None


@contextmanager
def making(folder: Path, report: Report) -> Iterator[None]:
    """Be the only one who makes this folder; raises Refused if the cache can't be written."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(f"{folder}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        raise Refused(
            f"{folder}: found {fault.strerror}; allowed a folder that can be written to; "
            "set XDG_CACHE_HOME to one"
        ) from fault
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another process is getting the Pulumi engine; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def keep(folder: Path, origin: Origin, make: Callable[[Path], None]) -> Engine:
    """Let `make` fill a new folder, then put it in its place. To be called while `making`.

    What a killed maker has left is removed first.
    """
    for left in folder.parent.glob(f"{folder.name}.partial-*"):
        shutil.rmtree(left, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=folder.parent))
    try:
        make(partial)
        (partial / ORIGIN_FILE).write_text(origin)
        partial.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Engine(pulumi=folder / "pulumi", version=VERSION, origin=origin)
