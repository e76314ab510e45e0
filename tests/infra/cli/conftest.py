"""A stack filled by hand: real folder stores, real logs, and keepers that speak the protocol."""

import hashlib
import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.checkout import MARKER, StackMarker, stack_folder, write_marker
from infra.cli.clock import Clock
from infra.cli.stack import find_stack
from infra.clouds.view import StackView
from infra.plan.names import Role, node_address, node_name
from infra.plan.spec import StackSpec
from runtime.coordination.log import EpochRecord, Outcome, PoolLog, Presence, epoch_log
from runtime.limits import ALIVE_S, JOIN_GRACE_S
from runtime.node_spec import GatewaySpec, NodeTemplate, ServeSpec, StoreUrls, TrainSpec
from runtime.objects import Store, file_url, open_store
from runtime.registry import publish

LONG_AGO = timedelta(seconds=JOIN_GRACE_S + ALIVE_S + 60)
MODEL = "atoll-code"
POOLS: dict[Role, int] = {"training": 2, "replica": 2, "gateway": 2}


class Keeper:
    """Speaks a keeper's protocol for one pool. Its nodes run as this process."""

    def __init__(self, stack_id: str, pool: Role, size: int) -> None:
        self.pool, self.size, self.stack_id = pool, size, stack_id
        self.reclaimed: list[tuple[str, float]] = []
        self.states = {node_name(pool, index): "running" for index in range(10)}
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(f"\0atoll/{stack_id}/{pool}")
        self._server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Nobody keeps the pool any more."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                with connection, connection.makefile("rwb") as stream:
                    stream.write(json.dumps(self._answer(json.loads(stream.readline()))).encode())
                    stream.write(b"\n")

    def _answer(self, asked: dict[str, object]) -> dict[str, object]:
        if asked["op"] == "size":
            self.size = int(str(asked["size"]))
            return {"size": self.size}
        if asked["op"] == "reclaim":
            self.reclaimed.append((str(asked["node"]), float(str(asked["after_s"]))))
            return {"ok": True}
        assert asked["op"] == "describe"
        nodes = [node_name(self.pool, index) for index in range(self.size)]
        return {
            "pool": self.pool,
            "size": self.size,
            "target": self.size,
            "pid": os.getpid(),
            "nodes": [
                {
                    "node": node,
                    "index": index,
                    "address": node_address(self.stack_id, self.pool, index),
                    "pid": os.getpid(),
                    "state": self.states[node],
                    "restarts": 0,
                }
                for index, node in enumerate(nodes)
            ],
        }


@dataclass
class StandingStack:
    """A stack that looks as if `up` had made it."""

    home: Path
    stack: str = "local"
    stack_id: str = "5e1f0a0b"
    keepers: dict[Role, Keeper] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = stack_folder(self.home, self.stack_id)
        write_marker(
            StackMarker(
                stack=self.stack,
                stack_id=self.stack_id,
                project="atoll",
                home=str(self.home),
                is_complete=True,
            )
        )
        self.control = self.store("control")
        self.control.put("clock/made", b"")
        for pool in POOLS:
            self._write_pool(pool)
        self.put_file("balancer/balancer.json", {"address": "127.9.9.1", "port": 8080})

    def store(self, role: str) -> Store:
        """One of its stores."""
        return open_store(file_url(self.folder / "stores" / role))

    def view(self) -> StackView:
        """As the commands see it."""
        return find_stack(self.home, self.stack)

    def keep(self, pool: Role, size: int) -> Keeper:
        """Start a keeper for a pool."""
        self.keepers[pool] = Keeper(self.stack_id, pool, size)
        return self.keepers[pool]

    def close(self) -> None:
        """End its keepers."""
        for keeper in self.keepers.values():
            keeper.close()

    def put_file(self, path: str, content: object) -> None:
        """A JSON file in its folder."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))

    def say(self, pool: Role, index: int = 0, *, age_s: float = 0.0, **said: object) -> str:
        """A node's presence, written `age_s` ago by this process."""
        node = node_name(pool, index)
        presence = Presence.model_validate(
            {
                "node": node,
                "pool": pool,
                "role": pool,
                "address": node_address(self.stack_id, pool, index),
                "boot_id": "b",
                "pid": os.getpid(),
                "state": "ready",
                **said,
            }
        )
        self.control.put(f"nodes/{node}", presence.model_dump_json().encode())
        if age_s:
            path = self.folder / "stores" / "control" / "nodes" / node
            written = path.stat().st_mtime - age_s
            os.utime(path, (written, written))
        return node

    def log(self) -> PoolLog:
        """The training pool's log."""
        return PoolLog(self.control, "training", "test")

    def claim(self, run: str, *, is_old: bool = False) -> int:
        """An open run, just claimed or long ago; returns its number."""
        age = LONG_AGO if is_old else timedelta(0)
        assert self.log().claim(run, datetime.now(UTC) - age)
        return self.log().state().runs[-1].number

    def end(self, run: str, outcome: Outcome = "published", why: str = "") -> None:
        """The end of an open run."""
        assert self.log().end(run, outcome, why, datetime.now(UTC))

    def hold(self, why: str) -> None:
        """Keep runs out, as somebody did before."""
        assert self.log().hold(why, datetime.now(UTC) - LONG_AGO)

    def remove(self) -> bool:
        """All files of it, as a `destroy` does."""
        shutil.rmtree(self.folder)
        return True

    def epoch(self, run: str, *members: str, resume_step: int = 0, why: str = "") -> None:
        """The next membership of a run."""
        log = epoch_log(self.control, run)
        record = EpochRecord(
            kind="epoch",
            members=members,
            rendezvous="127.9.9.10:29500",
            resume_step=resume_step,
            why=why,
            writer="test",
            at=datetime.now(UTC),
        )
        assert log.append_at(len(log.read()), record)

    def metrics(self, run: str, epoch: int, *lines: Mapping[str, object], tail: str = "") -> None:
        """A metrics file; `tail` is a line in the writing."""
        text = "".join(json.dumps(line) + "\n" for line in lines) + tail
        self.store("checkpoints").put(f"{run}/metrics/{epoch}.jsonl", text.encode())

    def publish(self, run: str, number: int, bits_per_byte: float = 1.87) -> str:
        """A model version of a run, made live; returns its digest."""
        folder = self.home / "exported" / run
        folder.mkdir(parents=True)
        for name in (
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ):
            (folder / name).write_text(json.dumps({"run": run}))
        (folder / "model.safetensors").write_bytes(hashlib.sha256(run.encode()).digest())
        version = publish(
            self.store("models"),
            self.control,
            MODEL,
            folder,
            run,
            number,
            560,
            {"bits_per_byte": bits_per_byte},
            "test",
            datetime.now(UTC),
        )
        return str(version.digest)

    def train(self, run: str) -> str:
        """A whole run, published; returns the digest."""
        number = self.claim(run, is_old=True)
        self.epoch(run, "training-0", "training-1")
        self.metrics(run, 0, {"step": 560, "steps": 560, "loss": 2.5})
        digest = self.publish(run, number)
        self.end(run)
        return digest

    def serve(self, digest: str) -> None:
        """All replicas and gateways ready."""
        for index in range(2):
            self.say("replica", index, model=digest, port=8000)
            self.say("gateway", index, port=8080)

    def _write_pool(self, pool: Role) -> None:
        spec = StackSpec()
        known = spec.training.model_dump(exclude={"threads_per_worker", "schedule", "model"})
        train = TrainSpec(**known, model=spec.training.model, threads_per_worker=1)
        serve = ServeSpec(
            model_name=MODEL, max_tokens=256, slots=8, queue=64, drain_s=1, threads=1, port=8000
        )
        gateway = GatewaySpec(
            replicas=2, api_key_sha256=("0" * 64,), max_tokens=256, drain_s=1, port=8080
        )
        urls = {role: self.store(role).url for role in StoreUrls.model_fields}
        template = NodeTemplate(
            stack=self.stack,
            stack_id=self.stack_id,
            cloud="local",
            pool=pool,
            bundle_sha256="0" * 64,
            stores=StoreUrls(**urls),
            train=train if pool == "training" else None,
            serve=serve if pool == "replica" else None,
            gateway=gateway if pool == "gateway" else None,
        )
        content = {
            "pool": pool,
            "role": pool,
            "size": 0 if pool == "training" else POOLS[pool],
            "size_max": POOLS[pool],
            "template": template.model_dump(mode="json"),
        }
        self.put_file(f"pools/{pool}/pool.json", content)


@dataclass
class ScriptedClock:
    """A clock that only moves when somebody waits; each wait plays the next scene."""

    scenes: list[Callable[[], object]] = field(default_factory=list)
    now_s: float = 0.0

    def wait(self, seconds: float) -> None:
        """Move on, and let the next thing happen."""
        self.now_s += seconds
        if self.scenes:
            self.scenes.pop(0)()

    @property
    def clock(self) -> Clock:
        """What the commands are handed."""
        return Clock(
            seconds=lambda: self.now_s, date=lambda: datetime.now(UTC), wait=lambda s: self.wait(s)
        )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of stacks of this test."""
    monkeypatch.setenv("ATOLL_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def standing(home: Path) -> Iterator[StandingStack]:
    """A stack without keepers, nodes, runs or models."""
    stack_id = hashlib.sha256(str(home).encode()).hexdigest()[:8]
    stack = StandingStack(home, stack_id=stack_id)
    assert (stack.folder / MARKER).exists()
    yield stack
    stack.close()


@pytest.fixture
def scripted() -> ScriptedClock:
    """Time that moves when somebody waits."""
    return ScriptedClock()
