"""What the plan must know of this machine: its cores, and whether there is text to train on."""

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from infra.plan.facts import Facts
from infra.plan.spec import StackSpec

FILES_MAX = 200_000  # enough to know that a folder is not empty and about how large it is


def local_facts(spec: StackSpec) -> Facts:
    """Look at the machine; changes nothing."""
    named = spec.training.data
    path = Path(sysconfig.get_path("stdlib")) if named == "python-stdlib" else Path(named)
    sizes: list[int] = []
    fault: str | None = None
    try:
        sizes = [size for size, _ in zip(_sizes(path.expanduser()), range(FILES_MAX), strict=False)]
    except OSError as error:
        fault = f"{error.strerror} at {error.filename or path}"
    if fault is None and not sum(sizes):
        fault = f"no text in {path}"
    return Facts(
        cores=len(os.sched_getaffinity(0)),
        data_files=len(sizes),
        data_bytes=sum(sizes),
        data_fault=fault,
    )


def _sizes(path: Path) -> Iterator[int]:
    """Sizes of the file, or of all files below the folder; raises OSError where it can't look."""
    if path.is_file():
        with path.open("rb"):  # readable, not only there
            yield path.stat().st_size
        return
    for entry in os.scandir(path):
        if entry.is_dir(follow_symlinks=False):
            yield from _sizes(Path(entry.path))
        elif entry.is_file():
            yield entry.stat().st_size
