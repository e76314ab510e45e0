"""What a stack has left on this machine, found without reading Pulumi's state.

Processes by environment, command line or working folder; listening ports by address or holder;
abstract sockets, folders and files by the stack's id. Never counts the one who asks.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.checkout import MARKER, markers, stack_folder
from infra.clouds.local.processes import (
    DEAD,
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
class Item:
    """One thing of a stack."""

    kind: str  # process, port, socket, folder, file, store
    id: str
    where: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepReport:
    """What is left, and what was kept on purpose."""

    left: tuple[Item, ...]
    kept: tuple[Item, ...]


def sweep(home: Path, stack: str, stack_id: str | None = None) -> SweepReport:
    """Look for everything of a stack; without an id, for all ids that the stack has had here."""
    ids = {stack_id} if stack_id else _ids_of(home, stack)
    left: list[Item] = []
    kept: list[Item] = []
    for one in sorted(ids):
        folder = stack_folder(home, one)
        processes = _processes(one, folder)
        left += [Item(kind="process", id=str(pid), where=command(pid)) for pid in sorted(processes)]
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
        if item.kind == "process" and (found := identify(int(item.id))) is not None:
            end(found, CHILD_STOP_S)
    for item in report.left:
        path = Path(item.where)
        if item.kind == "folder":
            shutil.rmtree(path, ignore_errors=True)
        elif item.kind == "file":
            path.unlink(missing_ok=True)


def _ids_of(home: Path, stack: str) -> set[str]:
    """By marker, and by the environment of what runs: a folder may be gone, its processes not."""
    ids = {marker.stack_id for marker in markers(home) if marker.stack == stack}
    for pid in pids():
        told = environ(pid)
        if told.get("ATOLL_STACK") == stack and told.get("ATOLL_HOME") == str(home):
            ids.add(told.get("ATOLL_STACK_ID", ""))
    return ids - {""}


def _processes(stack_id: str, folder: Path) -> set[int]:
    ours = _ancestors(os.getpid())
    return {pid for pid in pids() if pid not in ours and _belongs(pid, stack_id, folder)}


def _belongs(pid: int, stack_id: str, folder: Path) -> bool:
    stat = read_stat(pid)
    if stat is None or stat.state in DEAD:
        return False
    if environ(pid).get("ATOLL_STACK_ID") == stack_id:
        return True
    if str(folder) in command(pid):
        return True
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd")).is_relative_to(folder)
    except OSError:
        return False


def _ports(stack_id: str, processes: set[int]) -> Iterator[Item]:
    subnet = local_subnet(stack_id) + "."
    heard = listeners()
    held = holders({listener.inode for listener in heard})
    for listener in heard:
        pid = held.get(listener.inode)
        if listener.address.startswith(subnet) or pid in processes:
            holder = f"pid {pid}" if pid else "an unknown process"
            yield Item(kind="port", id=f"{listener.address}:{listener.port}", where=holder)


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
        yield Item(kind="folder", id=folder.name, where=str(folder))
        return
    for inside in sorted(folder.iterdir()):
        if inside.name == MARKER:
            continue
        if inside.name != "stores":
            yield Item(kind="folder", id=inside.name, where=str(inside))
            continue
        for store in sorted(inside.iterdir()):
            if store not in kept:
                yield Item(kind="folder", id=store.name, where=str(store))


def _files(stack_id: str) -> Iterator[Item]:
    for place in {tempfile.gettempdir(), "/dev/shm"}:  # noqa: S108  looked at, never written
        found = sorted(Path(place).glob(f"*atoll-{stack_id}*"))
        for path in found[:FILES_MAX]:
            kind = "folder" if path.is_dir() else "file"
            yield Item(kind=kind, id=path.name, where=str(path))


def _ancestors(pid: int) -> set[int]:
    chain = set()
    while pid > 1 and pid not in chain:
        chain.add(pid)
        stat = read_stat(pid)
        pid = stat.parent if stat is not None else 0
    return chain
