"""A pool whose nodes run a bundle of one small file: real keepers, real processes, real stores."""

import hashlib
import io
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from infra.clouds.local.processes import ProcessId, marked
from infra.plan.names import Role
from infra.provider.keeper import PoolFile, start_keeper, stop_keeper
from runtime.clouds.local import LocalPool, PoolDescription
from runtime.coordination.log import Presence
from runtime.errors import Missing, Unavailable
from runtime.node_spec import NodeTemplate, Schedule, ServeSpec, StoreUrls, TrainSpec
from runtime.objects import Store, file_url, open_store

UNTIL_S = 100.0  # a test gives up after this; none takes as long
DIES = "dies"  # a model name at which a node ends at once

# Says what it is, has a child that would outlive it, and leaves when told.
NODE = """
import json, os, pathlib, signal, subprocess, sys, threading
path = pathlib.Path(sys.argv[1])
spec = json.loads(path.read_text())
part = spec["serve"] or spec["train"]
if part["model_name"] == "dies":
    sys.exit(1)
leaving = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: leaving.set())
presence = pathlib.Path(spec["stores"]["control"][7:], "nodes", spec["node"])
said = json.loads(presence.read_text())
def say(state):
    partial = path.with_name("said")
    partial.write_text(json.dumps({**said, "state": state, "model": part["model_name"]}))
    partial.replace(presence)
child = subprocess.Popen(["sleep", "1000"])
path.with_name("child").write_text(str(child.pid))
say("ready")
leaving.wait()
child.kill()
say("stopped")
"""

MakePool = Callable[..., "PoolUnderTest"]
Result = TypeVar("Result")


@dataclass
class PoolUnderTest:
    """Makes a pool's file, starts its keeper, looks at what there is."""

    home: Path
    stack_id: str
    role: Role = "replica"
    size: int = 2
    size_max: int = 3
    schedule: Schedule | None = None
    control_home: Path | None = None  # None: its own; two pools may share a log
    bundle: bytes = field(default_factory=lambda: packed(NODE))

    def __post_init__(self) -> None:
        self.stores = (self.control_home or self.home) / "stores with spaces"
        self.client = LocalPool(self.stack_id, self.role)
        self.control: Store = open_store(file_url(self.stores / "control").replace("%20", " "))

    def start(self, model_name: str = "first") -> None:
        """As the provider does, for a new pool or a changed one."""
        start_keeper(self.file(model_name))

    def stop(self) -> None:
        """As the provider does."""
        stop_keeper(self.home, self.stack_id, self.role)

    def file(self, model_name: str = "first") -> PoolFile:
        """The pool file; its bundle is put into the store."""
        urls = {name: f"file://{self.stores}/{name}" for name in StoreUrls.model_fields}
        sha256 = hashlib.sha256(self.bundle).hexdigest()
        stored = self.stores / "bundle" / sha256
        if not stored.exists():
            stored.parent.mkdir(parents=True, exist_ok=True)
            stored.write_bytes(self.bundle)
        template = NodeTemplate(
            stack="test",
            stack_id=self.stack_id,
            cloud="local",
            pool=self.role,
            bundle_sha256=sha256,
            stores=StoreUrls(**urls),
            serve=serve_spec(model_name) if self.role == "replica" else None,
            train=train_spec(self.schedule) if self.role == "training" else None,
        )
        return PoolFile(
            stack="test",
            stack_id=self.stack_id,
            home=str(self.home),
            pool=self.role,
            role=self.role,
            size=self.size,
            size_max=self.size_max,
            template=template,
            schedule=self.schedule,
            python=sys.executable,
        )

    def describe(self) -> PoolDescription:
        """What the keeper says."""
        return self.client.describe()

    def presence(self, node: str) -> Presence | None:
        """What a node said last."""
        try:
            return Presence.model_validate_json(self.control.get(f"nodes/{node}"))
        except Missing:
            return None

    def ready(self) -> dict[str, int]:
        """Nodes that say they are ready and whose process runs, with its pid."""
        try:
            described = self.describe()
        except Unavailable:
            return {}
        found = {}
        for node in described.nodes:
            said = self.presence(node.node)
            if said and node.state == "running" and (said.pid, said.state) == (node.pid, "ready"):
                found[node.node] = said.pid
        return found

    def until_ready(self, count: int) -> dict[str, int]:
        """Wait for exactly so many nodes, all ready."""
        return until(
            lambda: (
                ready if len(ready := self.ready()) == count == len(self.describe().nodes) else None
            )
        )

    def until_target(self, size: int) -> None:
        """Wait until so many nodes are wanted."""
        until(lambda: self.describe().target == size)

    def processes(self) -> list[ProcessId]:
        """All processes of the pool that lead a session."""
        return marked(f"{self.stack_id}/{self.role}/")

    def keeper(self) -> ProcessId:
        """The keeper's process."""
        return only(f"{self.stack_id}/{self.role}/keeper/")


def only(token: str) -> ProcessId:
    """The one process whose token begins so.

    A child that it is starting has the same token until it is a program of its own.
    """
    return until(lambda: found[0] if len(found := marked(token)) == 1 else None)


def until(look: Callable[[], Result | None]) -> Result:
    """Look again until there is something to see."""
    for _ in tries():
        found = look()
        if found:
            return found
    raise AssertionError(f"not seen within {UNTIL_S:.0f} s")


def tries() -> Iterator[None]:
    """A moment between looks, for a limited time."""
    deadline = time.monotonic() + UNTIL_S
    while time.monotonic() < deadline:
        yield
        time.sleep(0.02)


def packed(node: str) -> bytes:
    """A bundle of one module."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in {"runtime/__init__.py": "", "runtime/node.py": node}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


def serve_spec(model_name: str) -> ServeSpec:
    """What a replica is told."""
    return ServeSpec(
        model_name=model_name, max_tokens=8, slots=1, queue=0, drain_s=1, threads=1, port=8000
    )


def train_spec(schedule: Schedule | None) -> TrainSpec:
    """What a training node is told."""
    return TrainSpec.model_validate(
        {
            "model_name": "first",
            "model": {},
            "data": "python-stdlib",
            "nodes": 2,
            "min_nodes": 1,
            "steps": 1,
            "global_batch": 1,
            "micro_batch": 1,
            "sequence_tokens": 8,
            "learning_rate": 0.1,
            "warmup_steps": 0,
            "weight_decay": 0,
            "clip_norm": 1,
            "seed": 0,
            "checkpoint_every_steps": 1,
            "validate_every_steps": 1,
            "join_s": 1,
            "pause_s_max": 1,
            "unsaved_s_max": 1,
            "watchdog_s": 5,
            "threads_per_worker": 1,
            "schedule": schedule,
        }
    )
