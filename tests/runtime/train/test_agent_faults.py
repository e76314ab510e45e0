"""What goes wrong around a run, on real node processes and folder stores."""

from __future__ import annotations

import os
import resource
import signal
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runtime import checkpoint
from runtime.coordination.ticks import tick_run
from runtime.registry import live_version
from tests.doubles.fake_clock import FakeClock
from tests.doubles.little_memory import little_memory

if TYPE_CHECKING:
    from runtime.node_spec import Schedule
    from tests.runtime.train.conftest import Rig

pytestmark = pytest.mark.slow


def test_a_killed_worker_costs_a_step_at_most_and_the_other_keeps_its_process(rig: Rig) -> None:
    rig.spec = rig.spec.model_copy(update={"steps": 100_000})
    rig.claim()
    pids = [rig.start(index).process.pid for index in (0, 1)]
    rig.wait(lambda: rig.step() >= 30, "30 steps")
    survivor = rig.nodes[0].worker_pid()

    os.kill(rig.nodes[1].worker_pid(), signal.SIGKILL)
    rig.wait(lambda: len(rig.epochs()) >= 3, "the node is back")

    assert rig.nodes[0].worker_pid() == survivor
    _, alone, together = rig.epochs()[:3]
    assert alone.members == alone.holders == together.holders == ("training-0",)
    assert together.members == ("training-0", "training-1")
    told = [rig.presence(index) for index in (0, 1)]
    assert [presence.pid for presence in told if presence] == pids


@pytest.mark.parametrize("victim", [0, 2])
def test_a_killed_node_costs_the_others_a_step_at_most(rig: Rig, victim: int) -> None:
    rig.spec = rig.spec.model_copy(update={"steps": 100_000, "nodes": 3})
    rig.train(0, 1, 2)
    survivors = [index for index in range(3) if index != victim]
    workers = [rig.nodes[index].worker_pid() for index in survivors]

    rig.nodes[victim].kill()
    rig.wait(lambda: len(rig.epochs()) == 2, "the others go on")
    told = rig.step()
    rig.wait(lambda: rig.step() > told + 20, "steps without it")

    first, second = rig.epochs()
    assert first.members == ("training-0", "training-1", "training-2")
    assert second.members == tuple(f"training-{index}" for index in survivors)
    assert second.holders
    assert [rig.nodes[index].worker_pid() for index in survivors] == workers


def test_a_killed_agent_takes_its_worker_along_and_the_others_go_on(rig: Rig) -> None:
    rig.spec = rig.spec.model_copy(update={"steps": 100_000})
    rig.train(0, 1)
    survivor, orphan = rig.nodes[0].worker_pid(), rig.nodes[1].worker_pid()

    rig.nodes[1].process.kill()
    rig.nodes[1].process.wait()
    rig.wait(lambda: len(rig.epochs()) == 2, "the other goes on")
    rig.wait(lambda: not Path(f"/proc/{orphan}").exists(), "its worker has ended by itself")
    rig.start(1)
    rig.wait(lambda: len(rig.epochs()) >= 3, "the node is back")

    assert rig.epochs()[2].members == ("training-0", "training-1")
    assert rig.nodes[0].worker_pid() == survivor


def test_clocks_that_jump_change_nothing(rig: Rig) -> None:
    rig.spec = rig.spec.model_copy(update={"steps": 100_000})
    clocks = [FakeClock(rig.folder / f"clock-{index}") for index in (0, 1)]
    rig.claim()
    for index, clock in enumerate(clocks):
        rig.start(index, env=clock.env)
    rig.wait(lambda: rig.step() >= 30, "30 steps")

    clocks[0].jump("+3h")
    clocks[1].jump("-3h")
    rig.wait(lambda: len(wall_times(rig)) > 1, "figures from both sides of a jump")
    assert len(rig.epochs()) == 1
    os.kill(rig.nodes[1].worker_pid(), signal.SIGKILL)
    rig.wait(lambda: len(rig.epochs()) >= 3, "the node is back")
    told = rig.step()
    rig.wait(lambda: rig.step() > told + 30, "steps after the jump")
    kept = len(checkpoint.commits(rig.store("checkpoints"), "run-test"))

    assert kept >= 2
    assert rig.epochs()[2].members == ("training-0", "training-1")


def wall_times(rig: Rig) -> set[int]:
    """The days and hours that figures of the first epoch bear."""
    return {int(line["at"] // 3600) for line in rig.metrics(0)} if rig.has_metrics(0) else set()


def test_a_model_that_does_not_fit_is_named_as_such(rig: Rig) -> None:
    model = rig.spec.model.model_copy(update={"width": 4096, "hidden": 32768})
    rig.spec = rig.spec.model_copy(update={"nodes": 1, "model": model})
    rig.claim()
    rig.start(0, limits={resource.RLIMIT_DATA: 1 << 30})

    entry = rig.wait_end()

    assert entry.outcome == "failed"
    assert entry.why.startswith("out of memory")


def test_a_worker_that_the_kernel_kills_for_want_of_memory_is_named_as_such(rig: Rig) -> None:
    batch = {"global_batch": 20_000, "micro_batch": 20_000, "nodes": 1}
    rig.spec = rig.spec.model_copy(update=batch)
    rig.claim()
    with ExitStack() as stack:
        try:
            within = stack.enter_context(little_memory(700 << 20))
        except OSError as fault:
            pytest.skip(f"this machine allows no memory cgroup: {fault}")
        rig.start(0, within=within)
        entry = rig.wait_end()
        rig.stop()

    assert entry.outcome == "failed"
    assert "out of memory" in entry.why


def test_below_min_nodes_what_is_in_memory_is_saved_and_a_resume_loses_no_step(rig: Rig) -> None:
    rig.spec = rig.spec.model_copy(
        update={"steps": 100_000, "min_nodes": 2, "pause_s_max": 6.0}
        | {"checkpoint_every_steps": 50_000}
    )
    rig.train(0, 1)

    rig.nodes[1].kill()
    entry = rig.wait_end()

    assert entry.outcome == "failed"
    assert "allowed at least 2" in entry.why
    (kept,) = checkpoint.commits(rig.store("checkpoints"), "run-test")
    steps = [line["step"] for line in rig.metrics(0) if "loss" in line]
    assert kept.step == steps[-1] >= 30
    rig.start(1)
    rig.claim()
    rig.wait(lambda: len(rig.epochs()) == 2, "it is resumed")
    assert rig.epochs()[1].resume_step == kept.step


def test_a_frozen_node_is_put_out_and_joins_again_when_it_wakes(rig: Rig) -> None:
    rig.spec = rig.spec.model_copy(update={"steps": 100_000, "watchdog_s": 2.0})
    rig.train(0, 1)
    survivor, frozen = rig.nodes[1].worker_pid(), rig.nodes[0].worker_pid()

    os.killpg(rig.nodes[0].process.pid, signal.SIGSTOP)
    rig.wait(lambda: len(rig.epochs()) == 2, "the other goes on")
    os.killpg(rig.nodes[0].process.pid, signal.SIGCONT)
    rig.wait(lambda: len(rig.epochs()) >= 3, "it is back")

    _, alone, together = rig.epochs()[:3]
    assert alone.members == alone.holders == together.holders == ("training-1",)
    assert together.members == ("training-0", "training-1")
    assert together.resume_step >= alone.resume_step
    assert rig.nodes[1].worker_pid() == survivor
    assert rig.nodes[0].worker_pid() == frozen  # it has fenced itself, no need to end it


def test_a_frozen_worker_is_killed_by_its_agent_and_replaced(rig: Rig) -> None:
    rig.spec = rig.spec.model_copy(update={"steps": 100_000, "watchdog_s": 2.0})
    rig.train(0, 1)
    frozen = rig.nodes[1].worker_pid()

    os.kill(frozen, signal.SIGSTOP)
    rig.wait(lambda: len(rig.epochs()) >= 3, "the node is back")

    _, alone, together = rig.epochs()[:3]
    assert alone.members == ("training-0",)
    assert together.members == ("training-0", "training-1")
    assert rig.nodes[1].worker_pid() != frozen


def test_a_node_that_returns_with_another_address_joins(rig: Rig) -> None:
    rig.spec = rig.spec.model_copy(update={"steps": 100_000})
    rig.train(0, 1)

    rig.nodes[0].kill()
    rig.start(0, address=99)
    rig.wait(lambda: len(rig.epochs()) >= 3, "it is back")

    assert rig.epochs()[2].members == ("training-0", "training-1")
    assert rig.epochs()[2].rendezvous.startswith(f"{rig.subnet}.99:")


def test_a_newcomer_joins_at_a_step_boundary_and_no_step_is_lost(rig: Rig) -> None:
    rig.spec = rig.spec.model_copy(
        update={"steps": 100_000, "join_s": 1.0, "checkpoint_every_steps": 10_000}
    )
    rig.claim()
    rig.start(0)
    rig.wait(lambda: rig.step() >= 20, "20 steps alone")

    rig.start(1)
    rig.wait(lambda: len(rig.epochs()) == 2, "an epoch with the newcomer")
    rig.wait(lambda: rig.has_metrics(1), "figures of that epoch")

    first, second = rig.epochs()
    assert first.members == ("training-0",)
    assert second.members == ("training-0", "training-1")
    steps = [[line["step"] for line in rig.metrics(n) if "loss" in line] for n in (0, 1)]
    assert steps[0][-1] == second.resume_step
    assert steps[1][0] == second.resume_step + 1


def test_a_cancelled_run_stops_on_all_nodes_and_publishes_nothing(rig: Rig) -> None:
    rig.spec = rig.spec.model_copy(update={"steps": 100_000})
    rig.claim()
    rig.start(0)
    rig.start(1)
    rig.wait(lambda: rig.step() >= 5, "5 steps")

    rig.pool_log().end("run-test", "cancelled", "somebody said so", datetime.now(UTC))

    def are_idle() -> bool:
        told = [rig.presence(index) for index in (0, 1)]
        return all(p is not None and p.state == "idle" and p.run is None for p in told)

    rig.wait(are_idle, "both nodes idle")
    assert live_version(rig.control, rig.spec.model_name) is None
    assert rig.entry().outcome == "cancelled"


def test_a_run_that_was_stopped_is_resumed_by_claiming_it_again(rig: Rig) -> None:
    rig.spec = rig.spec.model_copy(update={"steps": 100_000})
    rig.train(0, 1)
    rig.pool_log().end("run-test", "cancelled", "somebody said so", datetime.now(UTC))
    rig.wait(lambda: all(p and p.state == "idle" for p in map(rig.presence, (0, 1))), "idle")
    kept = checkpoint.commits(rig.store("checkpoints"), "run-test")[-1]
    before = len(rig.epochs())

    rig.claim()
    rig.wait(lambda: len(rig.epochs()) > before, "it goes on")
    rig.wait(lambda: len(rig.epochs()[-1].members) == 2, "both are in")
    rig.wait(lambda: rig.step() > kept.step, "steps")

    again = rig.epochs()[before]
    assert (again.resume_step, again.holders) == (kept.step, ())


def test_a_resume_with_another_model_is_refused_naming_both(rig: Rig) -> None:
    rig.spec = rig.spec.model_copy(update={"steps": 100_000, "nodes": 1})
    rig.train(0)
    rig.nodes[0].kill()
    model = rig.spec.model.model_copy(update={"width": 64})
    rig.spec = rig.spec.model_copy(update={"model": model})

    rig.start(0)
    entry = rig.wait_end()

    assert entry.outcome == "failed"
    assert "training.model.width: found 64; allowed 32" in entry.why


def test_a_resume_with_changed_data_is_refused_by_digest(rig: Rig) -> None:
    rig.spec = rig.spec.model_copy(update={"steps": 100_000, "nodes": 1})
    rig.train(0)
    rig.nodes[0].kill()
    (rig.folder / "texts" / "more.py").write_text("another = 1\n" * 50)

    rig.start(0)
    entry = rig.wait_end()

    assert entry.outcome == "failed"
    assert "digest of training.data: found" in entry.why


def test_too_few_nodes_end_a_run_as_no_capacity(rig: Rig) -> None:
    rig.spec = rig.spec.model_copy(update={"min_nodes": 2, "join_s": 1.0})
    rig.claim()
    rig.start(0)

    entry = rig.wait_end()

    assert entry.outcome == "no-capacity"
    assert "1 nodes" in entry.why
    assert rig.epochs() == []


def test_an_empty_data_folder_ends_the_run_with_its_reason(rig: Rig, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    rig.spec = rig.spec.model_copy(update={"data": str(empty)})
    rig.claim()
    rig.start(0)

    entry = rig.wait_end()

    assert entry.outcome == "failed"
    assert "training.data: found no readable text" in entry.why
    assert rig.nodes[0].process.poll() is None  # the node itself is well


def test_a_loss_that_is_no_number_ends_the_run(rig: Rig) -> None:
    rig.spec = rig.spec.model_copy(update={"learning_rate": 1e30, "nodes": 1})
    rig.claim()
    rig.start(0)

    entry = rig.wait_end()

    assert entry.outcome == "failed"
    assert entry.why.endswith("at step 2")
    assert entry.why.startswith(("the loss was", "the gradient was"))
    assert live_version(rig.control, rig.spec.model_name) is None


def test_a_disk_that_refuses_checkpoints_does_not_end_training(rig: Rig) -> None:
    rig.spec = rig.spec.model_copy(update={"nodes": 1, "steps": 300, "validate_every_steps": 300})
    rig.claim()
    # Weights fit, a checkpoint with the optimizer's two moments does not.
    rig.start(0, limits={resource.RLIMIT_FSIZE: 150_000})

    def says_so() -> bool:
        presence = rig.presence(0)
        return presence is not None and "not written" in presence.why

    rig.wait(says_so, "presence tells of the checkpoint")
    entry = rig.wait_end()

    assert entry.outcome == "published", rig.logs()
    assert len(rig.epochs()) == 1
    assert checkpoint.commits(rig.store("checkpoints"), entry.run) == []


def test_a_due_tick_becomes_one_run_of_two_nodes(rig: Rig, schedule_due_now: Schedule) -> None:
    tick = schedule_due_now.last_tick(datetime.now(UTC))
    assert tick is not None
    rig.spec = rig.spec.model_copy(update={"schedule": schedule_due_now})
    rig.start(0)
    rig.start(1)

    rig.wait(lambda: len(rig.pool_log().state().runs) > 0, "a run")
    entry = rig.wait_end(tick_run(tick))

    assert entry.outcome == "published", rig.logs()
    assert [e.members for e in rig.epochs(entry.run)] == [("training-0", "training-1")]
    assert rig.pool_log().state().runs == (entry,)
