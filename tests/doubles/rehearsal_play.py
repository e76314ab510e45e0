"""The whole of it: boot texts executed, a model trained, published, and asked through a gateway."""

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from runtime.coordination.log import PoolLog
from tests.doubles.rehearsal import Machine, Region, until
from tests.doubles.rehearsal_stack import KEY, machines, opened, template, text_of
from tests.doubles.rehearsal_store import RoleStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Played:
    """What came of it, and when, in seconds from the first machine's start."""

    region: Region
    log: PoolLog
    gateway: Machine
    replica: Machine
    trainers: list[Machine]
    misfit: Machine  # whose node file is refused
    answer: dict[str, Any]
    times: dict[str, float]

    @property
    def outcome(self) -> str | None:
        """Of the run."""
        return outcome(self.log)


def play(stack: ExitStack, store: RoleStore) -> Played:
    """Boot a gateway, a replica, two training nodes and one that does not fit; ask."""
    there = machines(stack, store, 5)
    log = PoolLog(opened(store, "control"), "training", "test")
    assert log.claim("run-1", datetime.now(UTC))
    began, times = time.monotonic(), dict[str, float]()

    def now(what: str) -> None:
        times[what] = time.monotonic() - began

    gateway = there.boot(text_of(template("gateway")), may="gateway")
    replica = there.boot(text_of(template("replica")), may="replica")
    trainers = [there.boot(text_of(template("training")), may="training") for _ in range(2)]
    wrong = text_of(template("training")).replace('"steps":40', '"steps":0')
    misfit = there.boot(wrong, may="training")
    for machine in there.machines:
        assert machine.booted() == 0, machine.console
    now("all five have booted")
    url = f"http://{gateway.address}:8080"
    until(lambda: gateway.ask(f"{url}/livez"), lambda: f"the gateway lives: {there.said}")
    until(lambda: outcome(log), lambda: f"the run has ended: {there.said}")
    now("the run is published")
    until(lambda: any(m.orders for m in trainers), lambda: f"it shrinks: {there.said}")
    until(lambda: is_ready(gateway, url), lambda: f"the gateway is ready: {there.said}")
    now("the gateway is ready")
    body = json.dumps({"model": "tiny", "prompt": "def add", "max_tokens": 8})
    headers = ("-H", f"Authorization: Bearer {KEY}", "-H", "Content-Type: application/json")
    answer = json.loads(gateway.ask(f"{url}/v1/completions", *headers, "-d", body))
    now("the first question is answered")
    return Played(
        region=there,
        log=log,
        gateway=gateway,
        replica=replica,
        trainers=trainers,
        misfit=misfit,
        answer=answer,
        times=times,
    )


def outcome(log: PoolLog) -> str | None:
    """Of the only run."""
    return log.state().runs[0].outcome


def is_ready(machine: Machine, url: str) -> bool:
    """Whether a gateway has found a replica that is ready."""
    code = ("-o", "/dev/null", "-w", "%{http_code}")
    return machine.ask(f"{url}/readyz", *code) == "200"
