"""A pool of real node processes that a benchmark harms: what happens to it, and when, it tells.

Times are this machine's wall clock: of the kill by us, of each applied step by the metrics lines of
the epoch's first member, of all in between by the nodes' logs.
"""

import os
import random
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from pathlib import Path

from infra.plan.facts import Facts
from infra.plan.spec import TrainingSpec
from infra.plan.training import train_spec
from runtime.coordination.log import EpochRecord, Log, epoch_log
from runtime.limits import RESTART_S
from runtime.node_spec import TrainSpec
from runtime.objects import Store, file_url, open_store
from tests.runtime.train.conftest import Rig
from tests.subnet import Subnet

NODES = 4
SETTLED_STEPS = 10  # of an epoch, before it is harmed: what a normal step takes is known then
POLL_S = 0.2
START_S = 300.0  # first start: text is tokenised, on a loaded machine
BACK_S = 120.0
S3_DELAY_S = 0.05  # added to each call
LOG_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) \w+ (\w+): (.*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a pool's stores are."""

    name: str
    base: str  # URL of all five, less the role
    node_env: dict[str, str] = field(default_factory=dict)  # how nodes reach them


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a node's log."""

    at_s: float
    node: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Harm:
    """What was done to a node."""

    at_s: float
    epoch: int  # the one that it broke
    node: str
    pids: dict[str, int]  # of the others' workers, before


@dataclass(slots=True)
class Pool(Rig):
    """A pool with stores at a place of its choice, and one run after the other."""

    place: Place = field(default_factory=lambda: Place(name="", base=""))
    run: str = ""
    log: Log[EpochRecord] | None = None

    def store(self, role: str) -> Store:
        """One of the five, reached directly: what we ask is not what is measured."""
        return open_store(f"{self.place.base}/{role}")

    def begin(self, run: str, nodes: int = NODES) -> None:
        """Start the nodes and a run, and wait until all are in it and at work."""
        self.run = run
        self.claim(run)
        self.log = epoch_log(self.control, run)
        for index in range(nodes):
            self.start(index)
        self.until_settled(nodes, START_S)

    def records(self) -> list[EpochRecord]:
        """The run's epochs so far."""
        assert self.log is not None, "begun"
        return [record for record in self.log.read() if record.kind == "epoch"]

    def until_settled(self, members: int, within_s: float = BACK_S) -> None:
        """Wait until the newest epoch has so many members and has taken some steps."""

        def is_settled() -> bool:
            records = self.records()
            if not records or len(records[-1].members) != members:
                return False
            told = self.presence(int(records[-1].members[0].rpartition("-")[2]))
            return (
                told is not None
                and told.epoch == len(records) - 1
                and told.step >= records[-1].resume_step + SETTLED_STEPS
            )

        self.until(is_settled, f"{members} members at work", within_s)

    def until_next(self, epoch: int) -> None:
        """Wait until this epoch is followed by another."""
        self.until(lambda: len(self.records()) > epoch + 1, f"an epoch after {epoch}")

    def until(self, is_so: Callable[[], bool], what: str, within_s: float = BACK_S) -> None:
        """Wait for a fact, asking seldom: the cores are the nodes'."""
        deadline_s = time.monotonic() + within_s
        while not is_so():
            if time.monotonic() > deadline_s:
                tail = "\n".join(line.text for line in self.lines()[-80:])
                raise TimeoutError(f"not within {within_s:.0f} s: {what}\n{tail}")
            time.sleep(POLL_S)

    def others(self, index: int) -> dict[str, int]:
        """Worker processes of all nodes but one."""
        workers = {node.node: self.worker(other) for other, node in self.nodes.items()}
        del workers[f"training-{index}"]
        return {node: pid for node, pid in workers.items() if pid is not None}

    def worker(self, index: int) -> int | None:
        """The computing process of a node, if it has one now."""
        try:
            return self.nodes[index].worker_pid()
        except (IndexError, FileNotFoundError):
            return None

    def kill_worker(self, index: int) -> Harm:
        """The computing process alone; its agent starts another."""
        pid = self.nodes[index].worker_pid()
        return self._harmed(index, lambda: os.kill(pid, signal.SIGKILL))

    def kill_node(self, index: int) -> Harm:
        """All of the node; who keeps it starts it again."""
        harm = self._harmed(index, self.nodes[index].kill)
        time.sleep(RESTART_S)
        self.start(index)
        return harm

    def freeze(self, index: int) -> Harm:
        """All of the node stands still, its connections stay open."""
        group = self.nodes[index].process.pid
        return self._harmed(index, lambda: os.killpg(group, signal.SIGSTOP))

    def _harmed(self, index: int, deed: Callable[[], None]) -> Harm:
        epoch, pids = len(self.records()) - 1, self.others(index)
        harm = Harm(at_s=time.time(), epoch=epoch, node=f"training-{index}", pids=pids)
        deed()
        return harm

    def thaw(self, index: int) -> None:
        """And on it goes."""
        os.killpg(self.nodes[index].process.pid, signal.SIGCONT)

    def rest(self) -> None:
        """Stop, once the figures of all steps until now are in the store."""
        now_s, newest = time.time(), len(self.records()) - 1

        def are_there() -> bool:
            told = self.steps_of(newest)
            return bool(told) and told[-1]["at"] >= now_s

        self.until(are_there, f"figures of epoch {newest}")
        self.stop()

    def steps(self) -> list[list[dict[str, float]]]:
        """The applied steps of each epoch."""
        return [self.steps_of(number) for number in range(len(self.records()))]

    def steps_of(self, epoch: int) -> list[dict[str, float]]:
        """None if nothing of it is in the store."""
        if not self.has_metrics(epoch, self.run):
            return []
        return [line for line in self.metrics(epoch, self.run) if "loss" in line]

    def lines(self) -> list[Line]:
        """All nodes' logs, in the order of time."""
        found = []
        for node in self.nodes.values():
            for text in node.log.read_text(errors="replace").splitlines():
                if match := LOG_LINE.match(text):
                    when = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S,%f")
                    at_s = when.astimezone().timestamp()
                    found.append(Line(at_s, node.node, f"{match[2]}: {match[3]}"))
        return sorted(found, key=lambda line: line.at_s)


def default_spec(nodes: int = NODES) -> TrainSpec:
    """The default stack's training on so many nodes, without an end."""
    cores = len(os.sched_getaffinity(0))
    facts = Facts(cores=cores, data_files=0, data_bytes=0)
    spec = train_spec(TrainingSpec(nodes=nodes), facts, max(1, cores // nodes))
    return spec.model_copy(update={"steps": 1_000_000, "join_s": START_S})


@contextmanager
def folder_place() -> Iterator[Place]:
    """A folder of this machine."""
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        yield Place(name="folder", base=file_url(Path(folder)))


@contextmanager
def slow_s3_place() -> Iterator[Place]:
    """SeaweedFS, each call of a node held back as if the store were far away."""
    servers = import_module("tests.doubles.store_servers")
    proxies = import_module("tests.doubles.fault_proxy")
    with servers.seaweedfs() as server, proxies.FaultProxy(server.host, server.port) as proxy:
        proxy.set(proxies.Fault(delay_s=S3_DELAY_S))
        os.environ |= servers.environment("s3", server.address) | servers.NO_METADATA
        yield Place(
            name=f"S3 with {S3_DELAY_S * 1000:.0f} ms added per call",
            base=server.url,
            node_env=servers.environment("s3", proxy.url),
        )


@contextmanager
def pool_at(place: Place, spec: TrainSpec) -> Iterator[Pool]:
    """A pool on addresses of its own; what it started ends with it."""
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        pool = Pool(
            folder=Path(folder),
            subnet=Subnet(),
            spec=spec,
            env=place.node_env,
            place=place,
        )
        try:
            yield pool
        finally:
            pool.stop()


def some_phase(dice: random.Random) -> None:
    """Wait for a moment that has nothing to do with where in a step the workers are."""
    time.sleep(dice.uniform(0.0, 1.0))
