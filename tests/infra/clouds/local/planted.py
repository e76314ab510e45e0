"""Things of stacks as a crash leaves them: real processes, files and sockets, each to be found."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import AF_INET, AF_UNIX, AddressFamily

from infra.checkout import StackMarker, stack_folder, write_marker
from infra.clouds.local.processes import ProcessId, command, end, environ, identify, read_stat
from infra.plan.names import local_subnet

UNTIL_S = 60.0  # for a process to start on a loaded machine
PYTHON = (sys.executable, "-I", "-S", "-c")  # starts at once
SLEEP = ("sleep", "1000")
IDLE = (*PYTHON, "import time; time.sleep(1000)")
LISTENS = """
import socket, sys, time
family, address = int(sys.argv[1]), sys.argv[2]
listening = socket.socket(family)
listening.bind("\\0" + address if family == socket.AF_UNIX else (address, 0))
listening.listen()
print(0 if family == socket.AF_UNIX else listening.getsockname()[1], flush=True)
time.sleep(1000)
"""

Found = tuple[str, str, str]  # kind, id, where


@dataclass
class Planter:
    """Starts and makes things, and leaves none of them."""

    _children: list[subprocess.Popen[str]] = field(default_factory=list)
    _daemons: list[ProcessId] = field(default_factory=list)
    _paths: list[Path] = field(default_factory=list)

    def start(
        self, argv: tuple[str, ...], env: Mapping[str, str], cwd: Path | None = None
    ) -> subprocess.Popen[str]:
        """A child; returns when it can be told by its command line."""
        child = subprocess.Popen(argv, env=env, cwd=cwd, stdout=subprocess.PIPE, text=True)
        self._children.append(child)
        # Its environment and command line appear a moment after exec(2) has returned.
        _until(lambda: command(child.pid) == " ".join(argv).strip() and _has(child.pid, env))
        return child

    def listen(
        self, family: AddressFamily, address: str, env: Mapping[str, str]
    ) -> tuple[int, int]:
        """A child that listens; its pid and the port."""
        child = self.start((*PYTHON, LISTENS, str(int(family)), address), env)
        assert child.stdout is not None
        return child.pid, int(child.stdout.readline())

    def daemon(self, env: Mapping[str, str]) -> int:
        """A process in a session of its own that has lost its parent."""
        said = subprocess.run(
            ["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"],
            env=env,
            stdout=subprocess.PIPE,
            check=True,
        )
        pid = int(said.stdout)
        process = identify(pid)
        assert process is not None
        self._daemons.append(process)
        _until(lambda: command(pid) == " ".join(SLEEP) and _has(pid, env))
        return pid

    def outside(self, place: str, name: str) -> Path:
        """A path outside every stack's folder, removed in the end."""
        self._paths.append(Path(place, name))
        return self._paths[-1]

    def close(self) -> None:
        """End and remove everything."""
        for child in self._children:
            child.kill()
            child.communicate()
        for daemon in self._daemons:
            end(daemon, 0.0)
        for path in self._paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        for planted in (self._children, self._daemons, self._paths):
            planted.clear()


@dataclass(frozen=True, kw_only=True, slots=True)
class PlantedStack:
    """A stack that something may be left of."""

    planter: Planter
    home: Path
    stack_id: str = field(default_factory=lambda: secrets.token_hex(4))
    stack: str = "local"

    @property
    def folder(self) -> Path:
        """Where its files belong."""
        return stack_folder(self.home, self.stack_id)

    @property
    def env(self) -> dict[str, str]:
        """What its processes carry, and nothing else."""
        return {
            "ATOLL_STACK": self.stack,
            "ATOLL_STACK_ID": self.stack_id,
            "ATOLL_HOME": str(self.home),
        }

    def mark(self) -> None:
        """Write its marker."""
        write_marker(
            StackMarker(
                stack=self.stack, stack_id=self.stack_id, project="atoll", home=str(self.home)
            )
        )


@contextmanager
def planting() -> Iterator[Planter]:
    """A planter that leaves nothing, also of a test that fails."""
    planter = Planter()
    try:
        yield planter
    finally:
        planter.close()


def orphan(stack: PlantedStack) -> set[Found]:
    """A child of a killed process of the stack."""
    return {process(stack.planter.start(SLEEP, stack.env).pid)}


def daemon(stack: PlantedStack) -> set[Found]:
    """Forked twice: only its environment tells whose it is."""
    pid = stack.planter.daemon({"ATOLL_STACK_ID": stack.stack_id})
    stat = read_stat(pid)
    assert stat is not None
    assert stat.parent != os.getpid()
    assert stat.session == pid
    return {process(pid)}


def told_by_command(stack: PlantedStack) -> set[Found]:
    """Only its command line tells whose it is."""
    return {process(stack.planter.start((*IDLE, f"{stack.folder}/nodes/replica-0"), {}).pid)}


def told_by_folder(stack: PlantedStack) -> set[Found]:
    """Only the folder that it runs in tells whose it is."""
    (stack.folder / "nodes" / "replica-0").mkdir(parents=True, exist_ok=True)
    child = stack.planter.start(SLEEP, {}, stack.folder / "nodes" / "replica-0")
    return {process(child.pid), the_folder(stack)}


def half_made_pool(stack: PlantedStack) -> set[Found]:
    """A pool whose keeper was never started."""
    (stack.folder / "pools" / "replica").mkdir(parents=True, exist_ok=True)
    (stack.folder / "pools" / "replica" / "pool.json").write_text("{}")
    return {the_folder(stack)}


def file_outside(stack: PlantedStack) -> set[Found]:
    """A file that a node has left in shared memory."""
    path = stack.planter.outside("/dev/shm", f"x-atoll-{stack.stack_id}.tmp")
    path.write_text("left")
    return {("file", path.name, str(path))}


def folder_outside(stack: PlantedStack) -> set[Found]:
    """A folder with a file in it."""
    path = stack.planter.outside(tempfile.gettempdir(), f"atoll-{stack.stack_id}-x")
    path.mkdir()
    (path / "file").write_text("left")
    return {("folder", path.name, str(path))}


def port(stack: PlantedStack) -> set[Found]:
    """A process that listens on an address of the stack's own."""
    address = f"{local_subnet(stack.stack_id)}.100"
    pid, number = stack.planter.listen(AF_INET, address, stack.env)
    return {process(pid), ("port", f"{address}:{number}", f"pid {pid}")}


def port_elsewhere(stack: PlantedStack) -> set[Found]:
    """A process of the stack that listens on an address of nobody's."""
    pid, number = stack.planter.listen(AF_INET, "127.0.0.1", stack.env)
    return {process(pid), ("port", f"127.0.0.1:{number}", f"pid {pid}")}


def abstract_socket(stack: PlantedStack) -> set[Found]:
    """A keeper's socket, which is no file."""
    name = f"atoll/{stack.stack_id}/replica"
    pid, _ = stack.planter.listen(AF_UNIX, name, stack.env)
    return {process(pid), ("socket", f"@{name}", "abstract Unix socket")}


KINDS: tuple[Callable[[PlantedStack], set[Found]], ...] = (
    orphan,
    daemon,
    told_by_command,
    told_by_folder,
    half_made_pool,
    file_outside,
    folder_outside,
    port,
    port_elsewhere,
    abstract_socket,
)


def process(pid: int) -> Found:
    """A process as it is to be listed."""
    return "process", str(pid), command(pid)


def the_folder(stack: PlantedStack) -> Found:
    """The stack's folder as it is to be listed: once, whatever it holds."""
    return "folder", stack.stack_id, str(stack.folder)


def _has(pid: int, env: Mapping[str, str]) -> bool:
    return environ(pid).items() >= env.items()


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + UNTIL_S
    while not is_so():
        assert time.monotonic() < deadline, f"not within {UNTIL_S:.0f} s"
        time.sleep(0.001)
