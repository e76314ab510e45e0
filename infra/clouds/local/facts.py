"""What the plan must know of this machine: its cores, and whether there is text to train on."""

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from infra.checkout import ROOT
from infra.plan.facts import Facts
from infra.plan.spec import StackSpec
from infra.plan.training import STDLIB

FILES_MAX = 200_000  # enough to know that a folder is not empty and about how large it is


def local_facts(spec: StackSpec) -> Facts:
    """Look at the machine; changes nothing."""
    data = _data(spec.training.data)
    path = data or Path(sysconfig.get_path("stdlib"))
    sizes: list[int] = []
    fault: str | None = None
    try:
        sizes = [size for size, _ in zip(_sizes(path), range(FILES_MAX), strict=False)]
    except OSError as error:
        fault = f"{error.strerror} at {error.filename or path}"
    if fault is None and not sum(sizes):
        fault = f"no text in {path}"
    return Facts(
        cores=len(os.sched_getaffinity(0)),
        data_files=len(sizes),
        data_bytes=sum(sizes),
        data=str(data) if data else None,
        data_fault=fault,
    )


def _data(named: str) -> Path | None:
    """Where nodes find it, whatever folder they run in; None: what each finds for itself."""
    # Not Path.expanduser, which raises for a user that there is not; this leaves the ~ as it is.
    return None if named == STDLIB else ROOT / os.path.expanduser(named)


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
