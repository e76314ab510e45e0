"""An `up` that is killed or stopped half-way, and two at once: the next one puts it right."""

import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from infra.clouds.local.processes import marked
from tests.end_to_end.conftest import Clone, eventually

pytestmark = pytest.mark.slow

STACK = "hurt"
# What is there when an `up` is killed, in the order in which it comes.
MOMENTS = {
    "the stack has an id": "stack.json",
    "its pools start": "pools/gateway/pool.json",
    "its balancer starts": "balancer/balancer.json",
}


@pytest.fixture
def stack(clone: Clone) -> str:
    """The stack file of a short run."""
    clone.write_stack(STACK)
    return STACK


def half_way(clone: Clone, sign: str) -> subprocess.Popen[str]:
    """An `up` that has come so far that this file is there."""
    up = clone.start("atoll", "up", "--stack", STACK, out=subprocess.DEVNULL)

    def is_there() -> bool:
        return any(clone.home.glob(f"stacks/*/{sign}")) or up.poll() is not None

    eventually(is_there, f"{sign} is there")
    assert up.poll() is None, "it ended before it could be hurt"
    return up


def kill_all_of(up: subprocess.Popen[str]) -> None:
    """As a machine that runs out of memory would: `atoll`, Pulumi, host and program at once."""
    os.killpg(up.pid, signal.SIGKILL)
    up.wait()


def down(clone: Clone) -> None:
    """Take it down, and see that it is gone."""
    gone = clone.run("atoll", "down", "--stack", STACK, "--json")
    assert gone.status == 0, gone.said
    assert gone.answer["left"] == []
    assert clone.processes() == []


@pytest.mark.parametrize("sign", MOMENTS.values(), ids=MOMENTS.keys())
def test_an_up_killed_with_9_is_healed_by_the_next_without_a_question(
    clone: Clone, stack: str, sign: str
) -> None:
    kill_all_of(half_way(clone, sign))

    healed = clone.up(stack)

    stack_ids = {path.name for path in (clone.home / "stacks").iterdir()}
    assert healed["answer"]["text"]
    assert len(stack_ids) == 1
    keepers = Counter(p.token.split("/")[1] for p in marked(stack_ids.pop()) if "keeper" in p.token)
    assert keepers == {"training": 1, "replica": 1, "gateway": 1, "balancer": 1}
    assert not clone.up(stack)["is_changed"]
    assert "pending" not in clone.pulumi("preview", "--stack", stack).out
    down(clone)


def test_pulumi_alone_killed_leaves_no_provider_and_its_lock_is_no_hindrance(
    clone: Clone, stack: str
) -> None:
    up = half_way(clone, MOMENTS["its pools start"])
    [engine] = [pid for pid in clone.processes() if _is_engine(pid)]

    os.kill(engine, signal.SIGKILL)
    status = up.wait()
    eventually(
        lambda: not any(_runs(pid, b"pulumi-resource-atoll") for pid in clone.processes()),
        "the provider has ended with its parent",
    )
    healed = clone.up(stack)

    assert status == 1
    assert healed["answer"]["text"]
    down(clone)


def test_ctrl_c_ends_in_order_and_the_next_up_goes_on(clone: Clone, stack: str) -> None:
    up = half_way(clone, MOMENTS["its pools start"])

    os.killpg(up.pid, signal.SIGINT)
    _, said = up.communicate()
    pending = (
        clone.pulumi("stack", "export", "--stack", stack)
        .answer["deployment"]
        .get("pending_operations")
    )
    healed = clone.up(stack)

    assert up.returncode != 0
    assert "Traceback" not in said
    assert not pending
    assert healed["answer"]["text"]
    down(clone)


def test_of_two_at_once_one_waits_and_one_run_is_made(clone: Clone, stack: str) -> None:
    both = [clone.start("atoll", "up", "--stack", stack, "--json") for _ in range(2)]
    ends = [up.communicate() for up in both]

    assert [up.returncode for up in both] == [0, 0], ends
    assert sum("waiting for it" in said for _, said in ends) == 1
    assert len(clone.status(stack)["runs"]) == 1
    down(clone)


def _runs(pid: int, name: bytes) -> bool:
    try:
        return name in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _is_engine(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name == "pulumi"
    except OSError:
        return False
