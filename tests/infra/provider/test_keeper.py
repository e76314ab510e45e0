"""Real keepers with real nodes: what is killed comes back, what is stopped is gone."""

import os
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.clouds.local.processes import ProcessId, environ, is_alive, read_stat
from infra.provider.keeper import EXIT_TAKEN, keeper_alive, start_keeper, stop_keeper
from runtime.clouds.local import LocalCloud
from runtime.coordination.log import PoolLog
from runtime.errors import Refused, Unavailable
from runtime.node_spec import Schedule
from tests.infra.provider.pool_under_test import DIES, MakePool, PoolUnderTest, until


@pytest.fixture
def pool(make_pool: MakePool) -> PoolUnderTest:
    """A serving pool of two that is up."""
    pool = make_pool()
    pool.start()
    pool.until_ready(2)
    return pool


def kill(pid: int) -> None:
    """With -9."""
    os.kill(pid, signal.SIGKILL)


def is_gone(pid: int) -> bool:
    """Whether no process of that pid runs."""
    stat = read_stat(pid)
    return stat is None or stat.state == "Z"


def keeper_log(pool: PoolUnderTest) -> str:
    """What the keeper wrote."""
    return (pool.file().folder / "keeper.log").read_text()


def test_nodes_have_their_own_session_address_folder_and_a_clean_environment(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "a secret of the shell that ran up")
    pool = make_pool()
    pool.start()

    pids = pool.until_ready(2)

    described = {node.node: node for node in pool.describe().nodes}
    assert len({described[name].address for name in pids}) == 2
    for name, pid in pids.items():
        stat = read_stat(pid)
        assert stat is not None
        assert stat.session == pid
        folder = pool.file().node_folder(described[name].index)
        assert os.readlink(f"/proc/{pid}/cwd") == str(folder)
        assert environ(pid)["ATOLL_STACK_ID"] == pool.stack_id
        assert environ(pid)["ATOLL_HOME"] == str(pool.home)
        assert environ(pid)["TMPDIR"] == str(folder / "tmp")
        assert "PULUMI_CONFIG_PASSPHRASE" not in environ(pid) | environ(pool.keeper().pid)


def test_a_node_killed_comes_back_and_its_children_do_not_outlive_it(pool: PoolUnderTest) -> None:
    before = pool.ready()
    child = int((pool.file().node_folder(0) / "child").read_text())

    kill(before["replica-0"])

    after = until(lambda: r if len(r := pool.ready()) == 2 and r != before else None)
    assert after["replica-1"] == before["replica-1"]
    assert is_gone(child)
    assert pool.describe().nodes[0].restarts == 1


def test_the_size_changes_at_the_high_end_and_outlives_the_keeper(pool: PoolUnderTest) -> None:
    before = pool.ready()

    pool.client.set_size(3)
    grown = pool.until_ready(3)
    pool.client.set_size(1)
    shrunk = pool.until_ready(1)

    assert grown.items() >= before.items()
    assert shrunk == {"replica-0": before["replica-0"]}
    left = pool.presence("replica-2")
    assert left is not None
    assert left.state == "stopped"
    kill(pool.keeper().pid)
    pool.start()
    assert pool.until_ready(1) == shrunk


@pytest.mark.parametrize("size", [-1, 4])
def test_a_size_out_of_bounds_is_refused(pool: PoolUnderTest, size: int) -> None:
    with pytest.raises(Refused, match="allowed 0 to 3"):
        pool.client.set_size(size)

    assert pool.describe().target == 2


def test_nodes_of_a_killed_keeper_are_adopted_and_held_on(pool: PoolUnderTest) -> None:
    before, keeper = pool.ready(), pool.keeper()

    kill(keeper.pid)
    assert until(lambda: not keeper_alive(pool.home, pool.stack_id, "replica"))
    with pytest.raises(Unavailable):
        pool.describe()
    kill(before["replica-1"])  # with nobody there to see it
    pool.start()

    after = pool.until_ready(2)
    assert keeper_alive(pool.home, pool.stack_id, "replica")
    assert after["replica-0"] == before["replica-0"]
    assert after["replica-1"] != before["replica-1"]
    kill(after["replica-0"])  # not a child of this keeper
    assert until(lambda: r if len(r := pool.ready()) == 2 and r != after else None)


def test_a_reclaimed_node_has_notice_is_killed_in_time_and_comes_back_without_one(
    pool: PoolUnderTest,
) -> None:
    before = pool.ready()
    clouds = [LocalCloud(pool.stack_id, "replica", f"replica-{index}") for index in (0, 1)]
    child = int((pool.file().node_folder(1) / "child").read_text())

    pool.client.reclaim("replica-1", 1.0)

    notices = [cloud.notice() for cloud in clouds]
    assert notices[0] is None
    assert notices[1] is not None
    assert 0.0 < notices[1].left_s <= 1.0
    after = until(lambda: r if len(r := pool.ready()) == 2 and r != before else None)
    assert after["replica-0"] == before["replica-0"]
    assert is_gone(child)
    assert datetime.now(UTC) >= notices[1].deadline
    assert clouds[1].notice() is None


def test_a_node_that_has_left_after_its_notice_is_not_killed_again_in_its_next_life(
    pool: PoolUnderTest,
) -> None:
    before = pool.ready()
    pool.client.reclaim("replica-1", 3.0)
    taken_at = time.monotonic() + 3.0

    kill(before["replica-1"])  # it goes early, as one that is done does

    after = until(lambda: r if len(r := pool.ready()) == 2 and r != before else None)
    until(lambda: time.monotonic() > taken_at + 0.5)
    assert pool.ready() == after


@pytest.mark.parametrize("node", ["replica-7", ""])
def test_a_reclaim_of_a_node_that_does_not_run_is_refused(pool: PoolUnderTest, node: str) -> None:
    with pytest.raises(Refused, match="replica-0, replica-1"):
        pool.client.reclaim(node, 1.0)


def test_of_two_keepers_one_leaves(pool: PoolUnderTest) -> None:
    keeper, nodes = pool.keeper(), pool.ready()

    second = subprocess.run(
        [sys.executable, "-P", "-m", "infra.provider.keeper", str(pool.file().folder)],
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert second.returncode == EXIT_TAKEN
    assert pool.keeper() == keeper
    assert pool.ready() == nodes


def test_a_name_that_is_taken_is_not_taken_over(make_pool: MakePool) -> None:
    pool = make_pool()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"\0atoll/{pool.stack_id}/replica")  # bound, and never answers: another home

        pool.file().write()
        done = subprocess.run(
            [sys.executable, "-P", "-m", "infra.provider.keeper", str(pool.file().folder)],
            capture_output=True,
            timeout=60,
            check=False,
        )

    assert done.returncode == EXIT_TAKEN
    assert pool.processes() == []


def test_a_flipped_byte_is_refused_and_mended_by_the_next_up(make_pool: MakePool) -> None:
    pool = make_pool(size=1)
    file = pool.file()
    stored = pool.stores / "bundle" / file.template.bundle_sha256
    stored.write_bytes(stored.read_bytes()[:-1] + b"\xff")

    start_keeper(file)

    refused = until(lambda: p if (p := pool.presence("replica-0")) and p.why else None)
    assert refused.state == "refused"
    assert "SHA-256" in refused.why
    assert until(lambda: pool.describe().nodes[0].state == "backing-off")
    stored.write_bytes(pool.bundle)
    start_keeper(file)
    said = pool.presence("replica-0")
    assert said is None or said.state != "refused", "the old word must be gone when reload answers"
    pool.until_ready(1)


def test_a_node_that_dies_at_once_is_started_ever_less_often(make_pool: MakePool) -> None:
    pool = make_pool(size=1)
    pool.start(DIES)

    until(lambda: pool.describe().nodes[0].restarts >= 2)

    assert "ended by itself (status 1)" in keeper_log(pool)


def test_a_changed_file_replaces_serving_nodes_one_at_a_time(pool: PoolUnderTest) -> None:
    before = pool.ready()
    fewest = 2

    pool.start("second")
    while any(node.is_stale or node.pid is None for node in pool.describe().nodes):
        fewest = min(fewest, len(pool.ready()))

    after = pool.until_ready(2)
    assert fewest >= 1
    assert not set(before.values()) & set(after.values())
    assert {p.model for name in after if (p := pool.presence(name))} == {"second"}


def test_a_file_that_does_no_good_stops_at_the_first_node(pool: PoolUnderTest) -> None:
    before = pool.ready()
    pool.bundle = b"no bundle at all"

    pool.start("second")

    assert until(lambda: "the others stay as they are" in keeper_log(pool))
    assert pool.ready() == {"replica-1": before["replica-1"]}
    assert [node.is_stale for node in pool.describe().nodes] == [False, True]


def test_stopping_lets_nodes_finish_and_leaves_nothing(pool: PoolUnderTest) -> None:
    pool.stop()

    assert pool.processes() == []
    assert not keeper_alive(pool.home, pool.stack_id, "replica")
    for name in ("replica-0", "replica-1"):
        said = pool.presence(name)
        assert said is not None
        assert said.state == "stopped"
    pool.stop()  # nothing to stop is no fault


def test_nodes_of_a_dead_keeper_whose_files_are_gone_are_stopped(pool: PoolUnderTest) -> None:
    left: list[ProcessId] = pool.processes()
    kill(pool.keeper().pid)
    for path in pool.file().folder.iterdir():
        path.unlink()

    stop_keeper(pool.home, pool.stack_id, "replica")

    assert len(left) == 3
    assert not any(is_alive(process) for process in left)
    said = pool.presence("replica-0")
    assert said is not None
    assert said.state == "stopped"


@pytest.mark.parametrize("wait_s", [0, pytest.param(60, marks=pytest.mark.slow)])
def test_two_keepers_of_one_log_claim_a_due_run_once(
    make_pool: MakePool, tmp_path: Path, wait_s: int
) -> None:
    """Due in this minute, so already past; and due in the next, with both waiting for it."""
    tick = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(seconds=wait_s)
    due = Schedule(minute=tick.minute, hour=tick.hour)
    pools = [
        make_pool(role="training", size=0, schedule=due, control_home=tmp_path) for _ in range(2)
    ]

    for pool in pools:
        pool.start()
    for pool in pools:
        pool.until_target(3)

    log = PoolLog(pools[0].control, "training", "test")
    [run] = log.state().runs
    assert run.tick == tick
    assert run.outcome is None
