"""A small service of real processes: folder stores, replicas, gateways, a tiny random model."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
import torch
from openai import AsyncOpenAI, OpenAI

from runtime.coordination.log import Presence, live_log
from runtime.model import export, tokenizer
from runtime.model.decoder import Decoder, DecoderShape
from runtime.node_spec import GatewaySpec, NodeSpec, ServeSpec, StoreUrls
from runtime.objects import Store, file_url, open_store
from runtime.registry import publish
from tests.subnet import Subnet

ROOT = Path(__file__).resolve().parents[3]
KEY = "a key for tests"
MODEL = "tiny"
WAIT_S = 60.0
SHAPE = DecoderShape(
    vocabulary=300, width=32, layers=2, heads=4, kv_heads=2, hidden=64, context=4096
)
TEXTS = ["def add(a, b):\n    return a + b\n", "for x in range(10):\n    print(x)\n"] * 3


def eventually(is_so: Callable[[], bool], what: str) -> None:
    """Wait for a fact; says what did not come true."""
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, f"not within {WAIT_S:.0f} s: {what}"
        time.sleep(0.02)


def tiny_model(seed: int) -> Decoder:
    """Random weights, large enough that the text wanders; token 0 is never the greedy choice."""
    torch.manual_seed(seed)
    model = Decoder(SHAPE)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.4)
        next(iter(model.parameters()))[0].zero_()
    return model


def save_tiny_model(folder: Path, seed: int) -> Path:
    """The same as a model folder."""
    export.save(tiny_model(seed), SHAPE, tokenizer.train(TEXTS, SHAPE.vocabulary), folder)
    return folder


@dataclass(slots=True)
class Running:
    """A node process that serves HTTP."""

    node: str
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def is_ready(self) -> bool:
        """What its `/readyz` says; no answer is a no."""
        return self.status("/readyz") == 200

    def status(self, path: str) -> int:
        """The status of a GET, 0 without an answer."""
        try:
            return httpx.get(self.url + path, timeout=5, trust_env=False).status_code
        except httpx.HTTPError:
            return 0

    def metric(self, name: str) -> float:
        """A value of `/metrics`."""
        text = httpx.get(f"{self.url}/metrics", timeout=5, trust_env=False).text
        lines = [line for line in text.splitlines() if line.startswith(name)]
        return float(lines[0].rsplit(" ", 1)[1])

    def wait_ready(self) -> "Running":
        """Wait until it is ready."""
        eventually(lambda: self.is_ready, f"{self.node} is ready; log:\n{self.log.read_text()}")
        return self

    def engine_pids(self) -> list[int]:
        """Its engine processes."""
        pid = self.process.pid
        return [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """The exit status."""
        return self.process.wait(WAIT_S)


@dataclass(slots=True)
class Rig:
    """One stack's serving side."""

    folder: Path
    subnet: Subnet = field(default_factory=Subnet)
    running: list[Running] = field(default_factory=list)
    runs: int = 0

    @property
    def control(self) -> Store:
        """Where logs and presence are."""
        return open_store(self.stores.control)

    @property
    def models(self) -> Store:
        """Where versions are."""
        return open_store(self.stores.models)

    @property
    def stores(self) -> StoreUrls:
        """All five, as folders."""
        names = ("bundle", "data", "checkpoints", "models", "control")
        return StoreUrls(**{name: file_url(self.folder / name) for name in names})

    def publish(self, seed: int) -> str:
        """Publish a model version as a run would; returns the digest."""
        self.runs += 1
        model_folder = save_tiny_model(self.folder / f"model-{self.runs}", seed)
        publish(
            self.models,
            self.control,
            MODEL,
            model_folder,
            f"run-{self.runs}",
            self.runs,
            step=1,
            metrics={},
            writer="test",
            at=datetime.now(UTC),
        )
        return live_log(self.control, MODEL).read()[-1].digest

    def replica(self, index: int, slots: int = 4, queue: int = 64, drain_s: float = 30) -> Running:
        """Start a replica."""
        spec = ServeSpec(
            model_name=MODEL,
            max_tokens=4000,
            slots=slots,
            queue=queue,
            drain_s=drain_s,
            threads=1,
            port=8000,
        )
        return self._start("replica", index, f"{self.subnet}.{100 + index}", serve=spec)

    def gateway(self, index: int = 0, replicas: int = 1) -> Running:
        """Start a gateway."""
        spec = GatewaySpec(
            replicas=replicas,
            api_key_sha256=(sha256(KEY.encode()).hexdigest(),),
            max_tokens=4000,
            drain_s=30,
            port=8080,
        )
        return self._start("gateway", index, f"{self.subnet}.{200 + index}", gateway=spec)

    def presence(self, node: str) -> Presence:
        """What a node says about itself."""
        return Presence.model_validate_json(self.control.get(f"nodes/{node}"))

    def client(self, to: Running, key: str = KEY) -> OpenAI:
        """The official client, without its retries."""
        return OpenAI(base_url=f"{to.url}/v1", api_key=key, max_retries=0, timeout=WAIT_S)

    def async_client(self, to: Running) -> AsyncOpenAI:
        """The same for many requests at once."""
        return AsyncOpenAI(base_url=f"{to.url}/v1", api_key=KEY, max_retries=0, timeout=WAIT_S)

    @staticmethod
    def eventually(is_so: Callable[[], bool], what: str) -> None:
        """Wait for a fact; says what did not come true."""
        eventually(is_so, what)

    def stop(self) -> None:
        """Kill what runs; engines end with their replicas."""
        for running in self.running:
            running.kill()
            running.process.wait()

    def _start(
        self,
        pool: str,
        index: int,
        address: str,
        serve: ServeSpec | None = None,
        gateway: GatewaySpec | None = None,
    ) -> Running:
        spec = NodeSpec(
            stack="test",
            stack_id="0" * 8,
            cloud="local",
            pool=pool,
            node=f"{pool}-{index}",
            address=address,
            bundle_sha256="0" * 64,
            stores=self.stores,
            serve=serve,
            gateway=gateway,
        )
        folder = self.folder / "nodes" / spec.node
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "node.json").write_text(spec.model_dump_json())
        log = folder / "node.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "runtime.node", str(folder / "node.json")],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=out,
                stderr=out,
            )
        port = 8000 if serve else 8080
        running = Running(spec.node, f"http://{address}:{port}", process, log)
        self.running.append(running)
        return running


def _rig(folder: Path) -> Iterator[Rig]:
    rig = Rig(folder=folder)
    try:
        yield rig
    finally:
        rig.stop()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A service of one's own, nothing started."""
    yield from _rig(tmp_path)


@dataclass(frozen=True, slots=True)
class Service:
    """One replica behind one gateway, ready."""

    rig: Rig
    replica: Running
    gateway: Running
    digest: str

    @property
    def client(self) -> OpenAI:
        """To the gateway."""
        return self.rig.client(self.gateway)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Shared by tests that leave it as they found it."""
    for rig in _rig(tmp_path_factory.mktemp("service")):
        replica, gateway = rig.replica(0, slots=4, queue=4), rig.gateway()
        digest = rig.publish(seed=1)
        replica.wait_ready()
        gateway.wait_ready()
        yield Service(rig, replica, gateway, digest)
