"""A training pool without a keeper: node processes that a test starts, kills and starts again."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.clouds.local.processes import DEAD, kill_all, read_stat
from runtime.coordination.log import EpochRecord, PoolLog, Presence, RunEntry, epoch_log
from runtime.errors import Missing
from runtime.node_spec import NodeSpec, Schedule, StoreUrls, TrainSpec
from runtime.objects import Store, file_url, open_store
from tests.doubles.wires import Wires
from tests.subnet import Subnet
from tests.tiny import tiny_spec, write_texts

ROOT = Path(__file__).resolve().parents[3]
RUN = "run-test"
WAIT_S = 120.0


def eventually(is_so: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait for a fact; says what did not come true."""
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, f"not within {WAIT_S:.0f} s: {what()}"
        time.sleep(0.05)


@dataclass(slots=True)
class TrainingNode:
    """A node process."""

    node: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """As if the machine had failed: the worker too, at once, and all of it gone."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        # Nobody's child now, a worker still holds its port and its memory for a moment.
        kill_all(self._has)

    def _has(self, pid: int) -> bool:
        stat = read_stat(pid)
        return stat is not None and stat.session == self.process.pid and stat.state not in DEAD

    def worker_pid(self) -> int:
        """Its computing child."""
        pid = self.process.pid
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return int(text.split()[0])


@dataclass(slots=True)
class Rig:
    """One stack's training side."""

    folder: Path
    subnet: Subnet | Wires
    spec: TrainSpec
    nodes: dict[int, TrainingNode] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)  # for nodes, over the test's own
    bucket: str = ""  # where stores are; empty: in the folder
    options: dict[str, str] = field(default_factory=dict)  # how the test itself reaches them

    @property
    def stack_id(self) -> str:
        """Its own, as its addresses are."""
        return str(self.subnet).rpartition(".")[2].zfill(8)

    def store(self, role: str) -> Store:
        """One of the five."""
        if self.bucket:
            return open_store(f"{self.bucket}/{role}", options=self.options)
        return open_store(file_url(self.folder / "stores" / role))

    @property
    def control(self) -> Store:
        """Where logs and presence are."""
        return self.store("control")

    def pool_log(self) -> PoolLog:
        """Read anew."""
        return PoolLog(self.control, "training", "test")

    def claim(self, run: str = RUN) -> None:
        """Start a run, as the command line does."""
        assert self.pool_log().claim(run, datetime.now(UTC))

    def entry(self, run: str = RUN) -> RunEntry:
        """What the pool's log says of a run."""
        return next(entry for entry in self.pool_log().state().runs if entry.run == run)

    def epochs(self, run: str = RUN) -> list[EpochRecord]:
        """Its epochs."""
        return [e for e in epoch_log(self.control, run).read() if e.kind == "epoch"]

    def start(
        self,
        index: int,
        limits: Mapping[int, int] | None = None,
        address: int | None = None,
        env: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> TrainingNode:
        """Start a node, or start it again.

        `limits` are the kernel's, `resource.RLIMIT_*`; `within` is a command that becomes the
        node, somewhere else.
        """
        urls = {role: self.store(role).url for role in StoreUrls.model_fields}
        spec = NodeSpec(
            stack="test",
            stack_id=self.stack_id,
            cloud="local",
            pool="training",
            node=f"training-{index}",
            address=f"{self.subnet}.{address or 10 + index}",
            bundle_sha256="0" * 64,
            stores=StoreUrls(**urls),
            train=self.spec,
        )
        folder = self.folder / "nodes" / spec.node
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "node.json").write_text(spec.model_dump_json())
        with (folder / "node.log").open("ab") as out:
            process = subprocess.Popen(
                [*within, sys.executable, "-P", "-m", "runtime.node", str(folder / "node.json")],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **self.env, **(env or {})},
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=lambda: _limit(limits or {}),
            )
        self.nodes[index] = TrainingNode(spec.node, process, folder / "node.log")
        return self.nodes[index]

    def train(self, *indices: int, steps: int = 30) -> None:
        """Claim the run, start these nodes, and wait until they are at work."""
        self.claim()
        for index in indices:
            self.start(index)
        self.wait(lambda: self.step() >= steps, f"{steps} steps")

    def presence(self, index: int) -> Presence | None:
        """What a node says of itself."""
        try:
            text = self.control.get(f"nodes/training-{index}")
        except Missing:
            return None
        return Presence.model_validate_json(text)

    def step(self) -> int:
        """The furthest applied step that is told."""
        told = [self.presence(index) for index in self.nodes]
        return max((presence.step for presence in told if presence), default=0)

    def wait(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait for a fact; shows the nodes' logs if it does not come true."""
        eventually(is_so, lambda: f"{what}\n{self.logs()}")

    def wait_end(self, run: str = RUN) -> RunEntry:
        """Wait until the run has ended."""
        self.wait(lambda: self.entry(run).outcome is not None, f"{run} has ended")
        return self.entry(run)

    def logs(self) -> str:
        """Of all nodes."""
        return "\n".join(f"== {n.node}\n{n.log.read_text()}" for n in self.nodes.values())

    def has_metrics(self, epoch: int, run: str = RUN) -> bool:
        """Whether figures of an epoch are in the store."""
        keys = [info.key for info in self.store("checkpoints").list(f"{run}/metrics")]
        return f"{run}/metrics/{epoch}.jsonl" in keys

    def metrics(self, epoch: int, run: str = RUN) -> list[dict[str, float]]:
        """Lines of an epoch."""
        text = self.store("checkpoints").get(f"{run}/metrics/{epoch}.jsonl").decode()
        return [json.loads(line) for line in text.splitlines()]

    def stop(self) -> None:
        """Kill what runs."""
        for node in self.nodes.values():
            node.kill()


def _limit(limits: Mapping[int, int]) -> None:
    for limit, most in limits.items():
        resource.setrlimit(limit, (most, most))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A pool of one's own, nothing started, on its own addresses."""
    data = write_texts(tmp_path / "texts")
    rig = Rig(folder=tmp_path, subnet=Subnet(), spec=tiny_spec(data))
    try:
        yield rig
    finally:
        rig.stop()


@pytest.fixture
def schedule_due_now() -> Schedule:
    """A schedule whose last due time is at most a minute old."""
    now = datetime.now(UTC)
    return Schedule(minute=now.minute, hour=now.hour)
