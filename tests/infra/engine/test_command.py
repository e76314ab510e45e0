"""The real engine on the file backend of a clone."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from infra.engine.broken_off import BrokenOff
from infra.engine.command import Pulumi
from infra.engine.lock import locks_of
from runtime.errors import Refused

DEADLINE_S = 60.0
LOOK_S = 0.1
UP = ["up", "--yes", "--stack", "local", "--skip-preview", "--non-interactive"]
WAITS = "import threading\nopen('started', 'w')\nthreading.Event().wait()\n"

# A process that runs `up` as the command line does, and tells how it came out.
RUNS = """\
import sys
from pathlib import Path
from infra.engine import Engine
from infra.engine.command import Pulumi
import os
engine = Engine(pulumi=Path(sys.argv[1]), version="", origin="built")
try:
    print("status", Pulumi(engine, os.environ, Path(sys.argv[2])).run(sys.argv[3:]))
except KeyboardInterrupt:
    print("interrupted")
"""


def _changed(root: Path) -> str:
    return subprocess.check_output(["git", "status", "--short"], cwd=root, text=True).replace(
        "A  ", ""
    )


def _begin(pulumi: Pulumi) -> subprocess.Popen[str]:
    """An `up` whose program waits for ever, in a process group of its own."""
    (pulumi.root / "infra" / "__main__.py").write_text(WAITS)
    process = subprocess.Popen(
        [sys.executable, "-c", RUNS, str(pulumi.engine.pulumi), str(pulumi.root), *UP],
        env=dict(pulumi.env),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    ends_s = time.monotonic() + DEADLINE_S
    while not (pulumi.root / "infra" / "started").exists():
        assert time.monotonic() < ends_s
        time.sleep(LOOK_S)  # the program is a grandchild: nothing tells of it
    return process


def _last_line(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=DEADLINE_S)
    return said.splitlines()[-1]


@pytest.mark.slow
def test_making_the_stack_twice_changes_no_file_of_the_user(pulumi: Pulumi) -> None:
    before = _changed(pulumi.root)

    pulumi.select("local")

    assert _changed(pulumi.root) == before
    assert pulumi.outputs("local") == {}


@pytest.mark.slow
def test_a_first_up_and_the_next_change_no_file_of_the_user(pulumi: Pulumi) -> None:
    before = _changed(pulumi.root)

    statuses = [pulumi.run(UP) for _ in range(2)]

    assert statuses == [0, 0]
    assert _changed(pulumi.root) == before


@pytest.mark.slow
def test_another_passphrase_is_refused_with_the_way_out(pulumi: Pulumi) -> None:
    file = pulumi.root / "stacks" / "Pulumi.local.yaml"
    (pulumi.root / "stacks" / "Pulumi.other.yaml").write_text(file.read_text())
    other = replace(pulumi, env={**pulumi.env, "PULUMI_CONFIG_PASSPHRASE": "mine"})

    with pytest.raises(Refused, match=r"remove that line of .*Pulumi\.other\.yaml and repeat"):
        other.select("other")


@pytest.mark.slow
def test_a_stack_file_without_a_salt_gets_one_for_the_users_passphrase(pulumi: Pulumi) -> None:
    file = pulumi.root / "stacks" / "Pulumi.other.yaml"
    file.write_text("config:\n  atoll:cluster:\n    cloud: local\n")
    other = replace(pulumi, env={**pulumi.env, "PULUMI_CONFIG_PASSPHRASE": "mine"})

    other.select("other")

    assert "encryptionsalt: v1:" in file.read_text()


@pytest.mark.slow
def test_a_stack_that_was_never_made_has_no_outputs_to_read(pulumi: Pulumi) -> None:
    with pytest.raises(Refused, match="no stack named 'other'"):
        pulumi.outputs("other")


@pytest.mark.slow
def test_ctrl_c_lets_pulumi_end_in_order(pulumi: Pulumi) -> None:
    process = _begin(pulumi)

    os.killpg(process.pid, signal.SIGINT)  # as a terminal does

    assert _last_line(process) == "interrupted"
    assert locks_of(pulumi.root / ".atoll" / "pulumi", "atoll", "local") == []


@pytest.mark.slow
def test_a_terminate_for_us_alone_lets_pulumi_end_in_order_too(pulumi: Pulumi) -> None:
    process = _begin(pulumi)

    process.terminate()

    assert _last_line(process) == "interrupted"
    assert locks_of(pulumi.root / ".atoll" / "pulumi", "atoll", "local") == []


@pytest.mark.slow
def test_the_lock_of_a_killed_up_is_removed_and_that_of_a_living_one_is_not(
    pulumi: Pulumi,
) -> None:
    process = _begin(pulumi)
    locks = locks_of(pulumi.root / ".atoll" / "pulumi", "atoll", "local")
    assert len(locks) == 1

    with pytest.raises(Refused, match=f"found process {locks[0][1].pid} working on it since"):
        pulumi.cancel_stale("local")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=DEADLINE_S)
    (pulumi.root / "infra" / "__main__.py").write_text("")
    assert pulumi.run(UP) != 0  # as long as the lock is there
    pulumi.cancel_stale("local")

    assert pulumi.run(UP) == 0


@pytest.mark.slow
def test_operations_that_were_broken_off_are_forgotten_once_a_clouds_own_are_seen_to(
    pulumi: Pulumi,
) -> None:
    seen: list[BrokenOff] = []
    pulumi.run(UP)

    _plant_pending(pulumi, "atoll:local:Store")
    pulumi.forget_broken_off("local", seen.append)
    assert _pending(pulumi) == []
    assert seen == []

    _plant_pending(pulumi, "aws:s3/bucket:Bucket")
    pulumi.forget_broken_off("local", seen.append)
    assert _pending(pulumi) == []
    assert [begun.type for begun in seen[0].begun] == ["aws:s3/bucket:Bucket"]

    _plant_pending(pulumi, "aws:s3/bucket:Bucket")
    with pytest.raises(Refused):
        pulumi.forget_broken_off("local", _refuse)
    assert _pending(pulumi) == ["aws:s3/bucket:Bucket"]


def _refuse(_: BrokenOff) -> None:
    raise Refused("nobody can be asked")


def _state_file(pulumi: Pulumi) -> Path:
    return pulumi.root / ".atoll/pulumi/.pulumi/stacks/atoll/local.json"


def _plant_pending(pulumi: Pulumi, kind: str) -> None:
    """What a kill in the middle of a create leaves in the state."""
    state = json.loads(_state_file(pulumi).read_text())
    resource = {"urn": f"urn:pulumi:local::atoll::{kind}::x", "custom": True, "type": kind}
    state["checkpoint"]["latest"]["pending_operations"] = [
        {"resource": resource, "type": "creating"}
    ]
    _state_file(pulumi).write_text(json.dumps(state))


def _pending(pulumi: Pulumi) -> list[str]:
    latest = json.loads(_state_file(pulumi).read_text())["checkpoint"]["latest"]
    return [operation["resource"]["type"] for operation in latest.get("pending_operations") or []]
