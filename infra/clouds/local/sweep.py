"""What a stack has left on this machine, found without reading Pulumi's state.

Processes by environment, command line or working folder; listening ports by address or holder;
abstract sockets, folders and files by the stack's id. Never counts the one who asks.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.checkout import MARKER, markers, stack_folder
from infra.clouds.leftovers import Item, SweepReport
from infra.clouds.local.processes import (
    ProcessId,
    command,
    end,
    environ,
    identify,
    pids,
    read_stat,
)
from infra.clouds.local.sockets import abstract_sockets, holders, listeners
from infra.plan.names import local_subnet
from runtime.limits import CHILD_STOP_S

KEPT = "KEPT"  # file in a store that `retain_data` keeps
FILES_MAX = 1000  # listed of one place; more say no more


@dataclass(frozen=True, kw_only=True, slots=True)
class Running(Item):
    """A process of a stack."""

    process: ProcessId  # the one that was found: its pid may be another's by now


def sweep(home: Path, stack: str, stack_id: str | None = None) -> SweepReport:
    """Look for everything of a stack; without an id, for all ids that the stack has had here."""
    ids = {stack_id} if stack_id else _ids_of(home, stack)
    left: list[Item] = []
    kept: list[Item] = []
    for one in sorted(ids):
        folder = stack_folder(home, one)
        processes = _processes(one, folder)
        left += [
            Running(kind="process", id=str(pid), where=command(pid), process=process)
            for pid, process in sorted(processes.items())
        ]
        left += _ports(one, processes)
        left += [
            Item(kind="socket", id=f"@{name}", where="abstract Unix socket")
            for name in abstract_sockets(f"atoll/{one}/")
        ]
        stores = _kept_stores(folder)
        kept += stores
        left += _folders(folder, {Path(item.where) for item in stores})
        left += _files(one)
    return SweepReport(left=tuple(left), kept=tuple(kept))


def clear(report: SweepReport) -> None:
    """End and remove exactly what a sweep found."""
    for item in report.left:
        if isinstance(item, Running):
            end(item.process, CHILD_STOP_S)
    for item in report.left:
        path = Path(item.where)
        if item.kind == "folder":
            shutil.rmtree(path, ignore_errors=True)
        elif item.kind == "file":
            path.unlink(missing_ok=True)


def _ids_of(home: Path, stack: str) -> set[str]:
    """By marker, and by the environment of what runs: a folder may be gone, its processes not."""
    ids = {m.stack_id for m in markers(home) if (m.stack, m.cloud) == (stack, "local")}
    for pid in pids():
        told = environ(pid)
        if told.get("ATOLL_STACK") == stack and told.get("ATOLL_HOME") == str(home):
            ids.add(told.get("ATOLL_STACK_ID", ""))
    return ids - {""}


def _processes(stack_id: str, folder: Path) -> dict[int, ProcessId]:
    ours = _ancestors(os.getpid())
    found = (identify(p) for p in pids() if p not in ours and _belongs(p, stack_id, folder))
    return {process.pid: process for process in found if process is not None}


def _belongs(pid: int, stack_id: str, folder: Path) -> bool:
    if environ(pid).get("ATOLL_STACK_ID") == stack_id:
        return True
    if str(folder) in command(pid):
        return True
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd")).is_relative_to(folder)
    except OSError:
        return False


def _ports(stack_id: str, processes: Mapping[int, ProcessId]) -> Iterator[Item]:
    """Those of the stack's processes, and all on its addresses but those of another stack."""
    subnet = local_subnet(stack_id) + "."
    heard = listeners()
    held = holders({listener.inode for listener in heard})
    for listener in heard:
        pid = held.get(listener.inode)
        is_near = listener.address.startswith(subnet) and not _is_anothers(pid, stack_id)
        if is_near or pid in processes:
            holder = f"pid {pid}" if pid else "an unknown process"
            yield Item(kind="port", id=f"{listener.address}:{listener.port}", where=holder)


def _is_anothers(pid: int | None, stack_id: str) -> bool:
    """Whether a process says that it is another stack's: two may share a subnet (`names.py`)."""
    return pid is not None and environ(pid).get("ATOLL_STACK_ID", stack_id) != stack_id


def _kept_stores(folder: Path) -> list[Item]:
    return [
        Item(kind="store", id=path.parent.name, where=str(path.parent))
        for path in sorted(folder.glob(f"stores/*/{KEPT}"))
    ]


def _folders(folder: Path, kept: set[Path]) -> Iterator[Item]:
    """The stack's folder, unless all that it holds is its marker and kept stores."""
    if not folder.is_dir():
        return
    if not kept:
        yield _file_item(folder)
        return
    for inside in sorted(folder.iterdir()):
        if inside.name == MARKER:
            continue
        if inside.name != "stores":
            yield _file_item(inside)
            continue
        for store in sorted(inside.iterdir()):
            if store not in kept:
                yield _file_item(store)


def _files(stack_id: str) -> Iterator[Item]:
    for place in {tempfile.gettempdir(), "/dev/shm"}:  # noqa: S108  looked at, never written
        found = sorted(Path(place).glob(f"*atoll-{stack_id}*"))
        yield from map(_file_item, found[:FILES_MAX])


def _file_item(path: Path) -> Item:
    """A path as it can be removed: a link is a file, whatever it leads to."""
    is_folder = path.is_dir() and not path.is_symlink()
    return Item(kind="folder" if is_folder else "file", id=path.name, where=str(path))


def _ancestors(pid: int) -> set[int]:
    chain = set()
    while pid > 1 and pid not in chain:
        chain.add(pid)
        stat = read_stat(pid)
        pid = stat.parent if stat is not None else 0
    return chain
