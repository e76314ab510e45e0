"""Rivals at the same work: torchrun from this environment, others in environments of their own.

Each does the default stack's work in `rivals/`. A rival's environment is made once per clone, by
uv, under `.atoll/rivals`; its version is pinned here, since it is no dependency of ours.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from infra.checkout import ROOT
from runtime.limits import RESTART_S
from runtime.node_spec import TrainSpec
from runtime.train.child import MALLOC
from tests.benchmarks.training_pool import BACK_S, NODES, POLL_S, SETTLED_STEPS, START_S

TORCHFT = "0.2.0"
ACCELERATE = "1.15.0"
RIVALS = "tests.benchmarks.rivals."
Timeouts = tuple[float, float]  # of torchft's lighthouse: of a heartbeat, and to wait for a quorum
DEFAULT: Timeouts = (5.0, 60.0)
SHORT: Timeouts = (1.0, 1.0)  # what a busy machine still bears
COME_BACK_S = 60.0  # a rival that has not gone on by then counts as one that does not come back
MONITOR_S = 0.1  # how often torchrun looks at its workers: the smallest that is usual


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """A line of a rival's trace."""

    at_s: float
    rank: int
    pid: int
    name: str
    step: int
    world: int


class RivalPool(Protocol):
    """One rival at work."""

    @property
    def name(self) -> str:
        """With what was set."""

    @property
    def version(self) -> str:
        """Of its package."""

    @property
    def folder(self) -> Path:
        """Where its processes tell what they do."""

    def start(self, rank: int) -> None:
        """Bring a killed worker back, where the rival does not do so itself."""

    def stop(self) -> None:
        """End all that was started."""


@dataclass(slots=True)
class TorchRun:
    """`torchrun --standalone`: one agent with all workers."""

    folder: Path
    work: Mapping[str, object]
    nodes: int
    name: str = "torchrun --standalone, a new store per restart"
    version: str = field(default_factory=lambda: version("torch"))
    module: str = RIVALS + "ddp"
    python: Path = Path(sys.executable)
    _agent: "subprocess.Popen[bytes] | None" = None

    def start(self, rank: int) -> None:
        """The agent brings workers back by itself; the first start is the agent's."""
        if self._agent is not None:
            return
        self._agent = started(
            [
                *(str(self.python), "-m", "torch.distributed.run", "--standalone"),
                *(f"--nproc-per-node={self.nodes}", "--max-restarts=1000"),
                *(f"--monitor-interval={MONITOR_S}", "-m", self.module),
                json.dumps(self.work),
            ],
            self.folder / "log",
            {
                "OMP_NUM_THREADS": str(self.work["threads"]),
                **MALLOC,
                # Left alone, 2.14.1's restarted workers find the addresses of those before them in
                # the shared store and never come back (2 of 2 kills here: connection refused).
                "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
            },
        )

    def wait(self, within_s: float) -> None:
        """Until all workers have ended by themselves, as they must."""
        assert self._agent is not None, "started"
        status = self._agent.wait(within_s)
        assert status == 0, (self.folder / "log").read_text(errors="replace")[-4000:]

    def send(self, number: signal.Signals) -> None:
        """To the agent and all below it."""
        assert self._agent is not None, "started"
        for pid in family(self._agent.pid):
            os.kill(pid, number)

    def stop(self) -> None:
        """All of it: the agent's end on its own may leave workers behind."""
        if self._agent is not None:
            self._agent.terminate()
            ended(self._agent)
            self._agent = None
        for event in events(self.folder):
            kill(event.pid)


@dataclass(slots=True)
class TorchFt:
    """torchft's lighthouse and a process per replica."""

    folder: Path
    work: dict[str, object]
    nodes: int
    timeouts: Timeouts
    python: Path
    version: str = TORCHFT
    _lighthouse: "subprocess.Popen[bytes] | None" = None
    _address: str = ""
    _workers: "dict[int, subprocess.Popen[bytes]]" = field(default_factory=dict)

    @property
    def name(self) -> str:
        """With the setting that matters here."""
        heartbeat_s, join_s = self.timeouts
        return f"torchft, time-outs: heartbeat {heartbeat_s:g} s, join {join_s:g} s"

    def start(self, rank: int) -> None:
        """A replica, and the lighthouse before the first."""
        if self._lighthouse is None:
            heartbeat_s, join_s = self.timeouts
            self._address = f"127.0.0.1:{free_port()}"
            self._lighthouse = started(
                [
                    *(str(self.python.with_name("torchft_lighthouse")), "--min_replicas", "1"),
                    *("--bind", self._address, "--join_timeout_ms", str(int(join_s * 1000))),
                    *("--heartbeat_timeout_ms", str(int(heartbeat_s * 1000))),
                ],
                self.folder / "lighthouse.log",
                {},
            )
        extra = {
            "rank": str(rank),
            "nodes": str(self.nodes),
            "lighthouse": f"http://{self._address}",
        }
        self._workers[rank] = started(
            [
                *(str(self.python), "-m", "tests.benchmarks.rivals.ft"),
                json.dumps({**self.work, "extra": extra}),
            ],
            self.folder / f"log-{rank}",
            {"OMP_NUM_THREADS": str(self.work["threads"]), **MALLOC},
        )

    def stop(self) -> None:
        """Replicas first."""
        for process in (*self._workers.values(), self._lighthouse):
            if process is not None:
                process.kill()
                process.wait()


@contextmanager
def torchrun(spec: TrainSpec) -> Iterator[TorchRun]:
    """Not started yet."""
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        pool = TorchRun(Path(folder), work_of(spec, Path(folder)), spec.nodes)
        try:
            yield pool
        finally:
            pool.stop()


@contextmanager
def torchft(spec: TrainSpec, timeouts: Timeouts) -> Iterator[TorchFt]:
    """Not started yet; its environment is made if it is not there."""
    python = environment_of("torchft", [f"torchft=={TORCHFT}", f"torch=={version('torch')}"])
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        work = work_of(spec, Path(folder))
        pool = TorchFt(Path(folder), work, spec.nodes, timeouts, python)
        try:
            yield pool
        finally:
            pool.stop()


@contextmanager
def accelerated(
    module: str, spec: TrainSpec, folder: Path, nodes: int, extra: Mapping[str, str]
) -> Iterator[TorchRun]:
    """A program of `rivals/` where accelerate is, by torchrun; not started yet."""
    work = {**work_of(spec, folder), "extra": extra}
    pool = TorchRun(folder, work, nodes, module=RIVALS + module, python=accelerate_python())
    try:
        yield pool
    finally:
        pool.stop()


def accelerate_python() -> Path:
    """Of an environment with accelerate and the Trainer of transformers."""
    same = [f"{name}=={version(name)}" for name in ("torch", "transformers", "safetensors")]
    return environment_of("accelerate", [f"accelerate=={ACCELERATE}", *same])


def work_of(spec: TrainSpec, folder: Path) -> dict[str, object]:
    """What `rivals/work.py` reads."""
    return {
        "folder": str(folder),
        "model": spec.model.model_dump(),
        "global_batch": spec.global_batch,
        "sequence_tokens": spec.sequence_tokens,
        "learning_rate": spec.learning_rate,
        "clip_norm": spec.clip_norm,
        "threads": spec.threads_per_worker,
        "extra": {},
    }


def environment_of(name: str, packages: list[str]) -> Path:
    """The Python of an environment with these packages and what they need."""
    folder = ROOT / ".atoll" / "rivals" / name
    python = folder / "bin" / "python"
    note = folder / "packages.json"
    if not note.exists() or json.loads(note.read_text()) != packages:
        uv = Path(sys.executable).with_name("uv")
        words = ["venv", "--quiet", "--clear", "--python", sys.executable, str(folder)]
        subprocess.run([uv, *words], check=True)
        words = ["pip", "install", "--quiet", "--python", str(python), *packages]
        subprocess.run([uv, *words], check=True)
        note.write_text(json.dumps(packages))
    return python


def begin(pool: RivalPool, nodes: int = NODES) -> None:
    """Start all ranks and wait until they are at work together."""
    for rank in range(nodes):
        pool.start(rank)
    until_settled(pool, nodes, time.time(), START_S)


def until_settled(pool: RivalPool, nodes: int, since_s: float, within_s: float = BACK_S) -> None:
    """Wait until so many ranks have each taken some steps together since then."""

    def is_settled() -> bool:
        ranks = [
            event.rank
            for event in events(pool.folder)
            if event.name == "applied" and event.world == nodes and event.at_s > since_s
        ]
        return all(ranks.count(rank) >= SETTLED_STEPS for rank in range(nodes))

    until(is_settled, f"{pool.name}: {nodes} ranks at work", within_s, pool.folder)


def kill_rank(pool: RivalPool, rank: int) -> float:
    """Kill -9 a rank's newest process; returns when."""
    pid = newest(pool.folder, rank)
    at_s = time.time()
    os.kill(pid, signal.SIGKILL)
    return at_s


def bring_back(pool: RivalPool, rank: int) -> None:
    """As our agent does: after a second."""
    time.sleep(RESTART_S)
    pool.start(rank)


def next_applied(pool: RivalPool, at_s: float) -> Event | None:
    """The first step that anybody else applies once the loss was noticed; None: it never came.

    One that was on its way when the kill came, by less than a step, is not what is asked for.
    """
    found: list[Event] = []

    def is_there() -> bool:
        told = sorted(events(pool.folder), key=lambda event: event.at_s)
        noticed_s = min(
            (e.at_s for e in told if e.at_s > at_s and is_after_the_loss(e)), default=None
        )
        if noticed_s is not None:
            found[:] = [e for e in told if e.at_s >= noticed_s and e.name == "applied"][:1]
        return bool(found)

    try:
        until(is_there, "the next step", COME_BACK_S, pool.folder)
    except TimeoutError:
        return None
    return found[0]


def is_after_the_loss(event: Event) -> bool:
    """torchrun starts all anew; torchft discards a step, or goes on with fewer."""
    return event.name in ("ready", "discarded") or 0 < event.world < NODES


def newest(folder: Path, rank: int) -> int:
    """A rank's present process."""
    ready = [event for event in events(folder) if event.rank == rank and event.name == "ready"]
    return max(ready, key=lambda event: event.at_s).pid


def events(folder: Path) -> list[Event]:
    """All that was told so far; a line that is being written is not there yet."""
    found = []
    for path in folder.glob("trace-*"):
        _, rank, pid = path.name.split("-")
        for line in whole_lines(path):
            found.append(
                Event(
                    at_s=line["at"],
                    rank=int(rank),
                    pid=int(pid),
                    name=line["event"],
                    step=line["step"],
                    world=line["world"],
                )
            )
    return found


def whole_lines(path: Path) -> list[Any]:
    """A file's JSON lines, but for one that is being written or that a kill has cut."""
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def until(is_so: Callable[[], bool], what: str, within_s: float, folder: Path) -> None:
    """Wait for a fact; says what the rival's logs ended with."""
    deadline_s = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > deadline_s:
            tails = [path.read_text(errors="replace")[-2000:] for path in folder.glob("log*")]
            raise TimeoutError("\n".join([f"not within {within_s:.0f} s: {what}", *tails]))
        time.sleep(POLL_S)


def started(command: list[str], log: Path, env: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """A process whose output goes to a file."""
    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **env},
            stdout=out,
            stderr=out,
        )


def ended(process: "subprocess.Popen[bytes]") -> None:
    """By force if it must be."""
    try:
        process.wait(5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def family(pid: int) -> list[int]:
    """A process and all below it."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [pid, *(each for child in text.split() for each in family(int(child)))]


def kill(pid: int) -> None:
    """If it is still ours to kill."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return
    if b"tests.benchmarks.rivals" in command:
        os.kill(pid, signal.SIGKILL)


def free_port() -> int:
    """Of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        return int(place.getsockname()[1])
