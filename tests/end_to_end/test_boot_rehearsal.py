"""Boot texts executed as they are: their nodes train a model, publish it and serve it.

Machines are namespaces (tests/doubles/rehearsal.py).
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from runtime.coordination.log import PoolLog
from tests.doubles.rehearsal import Machine, until
from tests.doubles.rehearsal_stack import (
    KEY,
    machines,
    opened,
    stocked,
    tells_no_secret,
    template,
    text_of,
)
from tests.doubles.rehearsal_store import RoleStore

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store() -> Iterator[RoleStore]:
    """S3 with the five buckets and the bundle."""
    with stocked() as store:
        yield store


def test_a_region_trains_a_model_and_serves_it(store: RoleStore) -> None:
    with ExitStack() as stack:
        there = machines(stack, store, 5)
        log = PoolLog(opened(store, "control"), "training", "test")
        assert log.claim("run-1", datetime.now(UTC))

        gateway = there.boot(text_of(template("gateway")), may="gateway")
        replica = there.boot(text_of(template("replica")), may="replica")
        trainers = [there.boot(text_of(template("training")), may="training") for _ in range(2)]
        misfit = there.boot(text_of(template("training")).replace('"steps":40', '"steps":0'),
                            may="training")  # fmt: skip
        for machine in there.machines:
            assert machine.booted() == 0, machine.console
        url = f"http://{gateway.address}:8080"
        until(lambda: gateway.ask(f"{url}/livez"), lambda: f"the gateway lives: {there.said}")
        until(lambda: outcome(log), lambda: f"the run has ended: {there.said}")
        until(lambda: any(m.orders for m in trainers), lambda: f"it shrinks: {there.said}")
        until(lambda: is_ready(gateway, url), lambda: f"the gateway is ready: {there.said}")

        body = json.dumps({"model": "tiny", "prompt": "def add", "max_tokens": 8})
        headers = ("-H", f"Authorization: Bearer {KEY}", "-H", "Content-Type: application/json")
        answer = json.loads(gateway.ask(f"{url}/v1/completions", *headers, "-d", body))

        assert outcome(log) == "published"
        assert answer["usage"]["completion_tokens"] > 0, answer
        assert all("DesiredCapacity=0" in form for m in trainers for _, form in m.orders)
        until(lambda: misfit.is_off, lambda: f"what is refused goes off: {misfit.unit}")
        assert [(status, "Terminate" in form) for status, form in misfit.orders] == [(200, True)]
        for machine in (gateway, replica):
            [(status, form)] = machine.orders
            assert (status, "CompleteLifecycleAction" in form) == (200, True)
        assert all(tells_no_secret(machine) for machine in there.machines)
        assert is_left_to_its_user(replica)


def outcome(log: PoolLog) -> str | None:
    """Of the run."""
    return log.state().runs[0].outcome


def is_ready(machine: Machine, url: str) -> bool:
    """Whether a gateway has found a replica that is ready."""
    code = ("-o", "/dev/null", "-w", "%{http_code}")
    return machine.ask(f"{url}/readyz", *code) == "200"


def is_left_to_its_user(machine: Machine) -> bool:
    """Whether the runtime is nobody special, and can't write its own code and packages."""
    lines = machine.run("ps", "-eo", "user=,args=").splitlines()
    users = {line.split()[0] for line in lines if "runtime.node" in line}
    writable = ["(", "-user", "atoll", "-o", "-perm", "-o=w", ")", "-not", "-type", "l"]
    # uv leaves its lock, which anybody may take.
    found = machine.run("find", "/opt/atoll", *writable, "-not", "-name", ".lock")
    return users == {"atoll"} and found == ""
