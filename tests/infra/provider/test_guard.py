"""Guard and Proof against real logs in a folder store."""

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.clouds.description import StackDescription, read_description
from infra.plan.limits import BOOT_S
from infra.provider.guard import GuardInputs, GuardKind, refuse_live
from infra.provider.kind import Context
from infra.provider.proof import ProofInputs, ProofKind
from runtime.coordination.log import PoolLog, Presence
from runtime.errors import Refused
from runtime.limits import ALIVE_S, JOIN_GRACE_S
from runtime.objects import Store, file_url, open_store

LONG_AGO = timedelta(seconds=JOIN_GRACE_S + ALIVE_S + 60)


class Said:
    """Collects what would be shown on the resource's row."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.context = Context(say=self, cancelled=threading.Event())

    def __call__(self, message: str, *, kept: bool = False) -> None:
        self.lines.append(message)


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def proof_inputs(tmp_path: Path) -> ProofInputs:
    return ProofInputs(home=str(tmp_path), project="atoll", stack="local", pools=("training",))


@pytest.fixture
def control(tmp_path: Path) -> Store:
    return open_store(file_url(tmp_path / "control"))


def guard(control: Store) -> GuardInputs:
    return GuardInputs(
        home="unused",
        stack="local",
        stack_id="00000000",
        control_url=control.url,
        pools=("training",),
    )


def claim_long_ago(control: Store, run: str) -> None:
    assert PoolLog(control, "training", "test").claim(run, datetime.now(UTC) - LONG_AGO)


def beat(control: Store, run: str) -> None:
    presence = Presence(
        node="training-0",
        pool="training",
        role="training",
        address="127.0.0.1",
        boot_id="b",
        pid=os.getpid(),
        state="training",
        run=run,
    )
    control.put("nodes/training-0", presence.model_dump_json().encode())


def test_guard_refuses_while_a_member_of_the_run_is_alive(control: Store, said: Said) -> None:
    claim_long_ago(control, "run-1")
    beat(control, "run-1")

    with pytest.raises(Refused, match=r"run-1 is live.*atoll runs stop run-1 --stack local"):
        GuardKind().delete(guard(control), {}, said.context)

    assert PoolLog(control, "training", "test").state().open_run is not None


def test_guard_refuses_a_run_that_was_claimed_just_now(control: Store, said: Said) -> None:
    PoolLog(control, "training", "test").claim("run-1", datetime.now(UTC))

    with pytest.raises(Refused, match="run-1"):
        GuardKind().delete(guard(control), {}, said.context)


def test_guard_closes_a_dead_run_with_its_reason_and_holds_the_pool(
    control: Store, said: Said
) -> None:
    claim_long_ago(control, "run-1")
    beat(control, "another-run")

    GuardKind().delete(guard(control), {}, said.context)

    state = PoolLog(control, "training", "test").state()
    assert state.open_run is None
    assert state.runs[0].outcome == "failed"
    assert "no member was alive" in state.runs[0].why
    assert not PoolLog(control, "training", "test").claim("run-2", datetime.now(UTC))


DESCRIPTION = StackDescription(
    stack="local",
    stack_id="00000000",
    cloud="local",
    version="0.1.0",
    endpoint_url="http://127.0.0.1:8080",
    run_hours=8.0,
    pools=(),
)


def test_guard_writes_what_the_stack_says_of_itself_and_renews_it(
    control: Store, said: Said
) -> None:
    older, first = guard(control), guard(control).model_copy(update={"description": DESCRIPTION})
    moved = DESCRIPTION.model_copy(update={"endpoint_url": "http://127.0.0.1:9090"})

    GuardKind().create(older, said.context)
    of_older = read_description(control)
    GuardKind().create(first, said.context)
    of_first = read_description(control)
    GuardKind().update(first.model_copy(update={"description": moved}), {}, said.context)

    assert (of_older, of_first, read_description(control)) == (None, DESCRIPTION, moved)
    GuardKind().delete(older, {}, said.context)


def test_a_run_whose_machines_may_still_boot_is_refused_on_a_rented_cloud(
    control: Store,
) -> None:
    claim_long_ago(control, "run-1")
    log = PoolLog(control, "training", "test")
    refuse_live(control, log, "local")

    with pytest.raises(Refused, match="run-1 is live"):
        refuse_live(control, log, "aws-small", BOOT_S)
    assert guard(control).boot_s == 0.0
    assert guard(control).model_copy(update={"region": "eu-central-1"}).boot_s == BOOT_S


def test_an_up_after_half_a_destroy_lets_runs_in_again(control: Store, said: Said) -> None:
    GuardKind().delete(guard(control), {}, said.context)

    GuardKind().create(guard(control), said.context)

    assert PoolLog(control, "training", "test").claim("run-1", datetime.now(UTC))


def test_proof_refuses_an_up_while_a_run_is_live(
    proof_inputs: ProofInputs, said: Said, tmp_path: Path
) -> None:
    _, computed = ProofKind().create(proof_inputs, said.context)
    folder = tmp_path / "stacks" / str(computed["stack_id"]) / "stores" / "control"
    state = {**proof_inputs.model_dump(mode="json"), **computed}
    ProofKind().refuse_update(state)
    control = open_store(file_url(folder))
    claim_long_ago(control, "run-1")
    ProofKind().refuse_update(state)
    beat(control, "run-1")

    with pytest.raises(Refused, match="run-1"):
        ProofKind().refuse_update(state)


def test_proof_removes_its_marker_and_says_zero_left(
    proof_inputs: ProofInputs, said: Said, tmp_path: Path
) -> None:
    stack_id, computed = ProofKind().create(proof_inputs, said.context)
    folder = tmp_path / "stacks" / stack_id
    for place in ("pools", "nodes", "stores"):
        (folder / place).mkdir()

    ProofKind().delete(proof_inputs, computed, said.context)

    assert not folder.exists()
    assert "0 left" in said.lines[-1]


def test_proof_fails_with_the_list_until_the_leftover_is_gone(
    proof_inputs: ProofInputs, said: Said, tmp_path: Path
) -> None:
    stack_id, computed = ProofKind().create(proof_inputs, said.context)
    leftover = tmp_path / "stacks" / stack_id / "nodes" / "training-0" / "core"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("x")

    with pytest.raises(Refused, match=f"left of stack local .{stack_id}"):
        ProofKind().delete(proof_inputs, computed, said.context)
    leftover.unlink()
    leftover.parent.rmdir()
    ProofKind().delete(proof_inputs, computed, said.context)

    assert "0 left" in said.lines[-1]


def test_an_id_is_drawn_once_for_an_up_that_was_killed_and_started_again(
    proof_inputs: ProofInputs, said: Said, tmp_path: Path, control: Store
) -> None:
    lost, _ = ProofKind().create(proof_inputs, said.context)
    again, _ = ProofKind().create(proof_inputs, said.context)
    complete = guard(control).model_copy(update={"home": str(tmp_path), "stack_id": again})
    GuardKind().create(complete, said.context)
    another, _ = ProofKind().create(proof_inputs, said.context)
    elsewhere, _ = ProofKind().create(
        proof_inputs.model_copy(update={"stack": "other"}), said.context
    )

    assert lost == again
    assert len({again, another, elsewhere}) == 3
