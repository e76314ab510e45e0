"""What a stack has left is found, whatever it is, and nothing of anybody else's."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from socket import AF_INET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.checkout import ROOT
from infra.clouds.leftovers import SweepReport
from infra.clouds.local.processes import is_alive
from infra.clouds.local.sweep import Running, clear, sweep
from infra.plan.names import local_subnet
from infra.provider.store import StoreInputs, StoreKind
from tests.infra.clouds.local.planted import (
    KINDS,
    SLEEP,
    Found,
    PlantedStack,
    Planter,
    half_made_pool,
    orphan,
    planting,
    the_folder,
)
from tests.infra.provider.said import Said

ASKS = """
import json, sys
from pathlib import Path
from infra.clouds.local.sweep import sweep
left = sweep(Path(sys.argv[1]), "local", sys.argv[2]).left
print(json.dumps([(item.kind, item.id, item.where) for item in left]))
"""


@pytest.fixture
def planter() -> Iterator[Planter]:
    with planting() as planter:
        yield planter


@pytest.fixture
def stack(planter: Planter, tmp_path: Path) -> PlantedStack:
    """A stack of which nothing is there yet."""
    return PlantedStack(planter=planter, home=tmp_path)


def swept(stack: PlantedStack) -> SweepReport:
    """A sweep by id."""
    return sweep(stack.home, stack.stack, stack.stack_id)


def left(report: SweepReport) -> set[Found]:
    """What is listed as left; fails if something is listed twice."""
    listed = Counter((item.kind, item.id, item.where) for item in report.left)
    assert set(listed.values()) <= {1}, listed
    return set(listed)


def keep_store(stack: PlantedStack, role: str) -> Path:
    """A store that `destroy` has kept."""
    inputs = StoreInputs(
        home=str(stack.home), stack=stack.stack, stack_id=stack.stack_id, role=role, retain=True
    )
    StoreKind().create(inputs, Said().context)
    StoreKind().delete(inputs, {}, Said().context)
    return stack.folder / "stores" / role


def test_of_a_stack_that_never_was_nothing_is_left(stack: PlantedStack) -> None:
    assert swept(stack) == SweepReport(left=(), kept=())


@pytest.mark.parametrize("plant", KINDS)
def test_each_thing_alone_is_found_and_cleared(
    stack: PlantedStack, plant: Callable[[PlantedStack], set[Found]]
) -> None:
    planted = plant(stack)

    report = swept(stack)

    assert left(report) == planted
    clear(report)
    assert swept(stack) == SweepReport(left=(), kept=())


# Their ids agree in the two bytes that make a subnet: the nearest that two stacks can come.
@settings(max_examples=15)
@given(st.sets(st.sampled_from(KINDS)), st.sets(st.sampled_from(KINDS)))
def test_clearing_one_stack_never_touches_the_things_of_another(
    ours: set[Callable[[PlantedStack], set[Found]]],
    others: set[Callable[[PlantedStack], set[Found]]],
) -> None:
    with tempfile.TemporaryDirectory() as home, planting() as planter:
        one = PlantedStack(planter=planter, home=Path(home))
        twin_id = one.stack_id[:4] + f"{int(one.stack_id[4:], 16) ^ 1:04x}"
        other = PlantedStack(planter=planter, home=Path(home), stack_id=twin_id)
        planted = {found for plant in ours for found in plant(one)}
        spared = {found for plant in others for found in plant(other)}

        before = swept(one)
        clear(before)

        assert left(before) == planted
        assert left(swept(one)) == set()
        assert left(swept(other)) == spared


def test_two_stacks_of_one_name_in_two_homes_never_see_each_other(
    planter: Planter, tmp_path: Path
) -> None:
    here = PlantedStack(planter=planter, home=tmp_path / "here")
    there = PlantedStack(planter=planter, home=tmp_path / "there")
    here.mark()
    [of_here], [of_there] = orphan(here), orphan(there)  # the folder of the second is gone

    assert left(sweep(here.home, "local")) == {of_here, the_folder(here)}
    assert left(sweep(there.home, "local")) == {of_there}
    assert left(sweep(here.home, "another")) == left(sweep(there.home, "another")) == set()


def test_all_ids_that_a_name_has_had_are_swept(planter: Planter, tmp_path: Path) -> None:
    first = PlantedStack(planter=planter, home=tmp_path)
    second = PlantedStack(planter=planter, home=tmp_path)
    first.mark()
    planted = {*orphan(second), *half_made_pool(first)}

    report = sweep(tmp_path, "local")

    assert left(report) == planted
    clear(report)
    assert left(sweep(tmp_path, "local")) == set()


def test_the_asker_and_those_above_it_are_not_counted(stack: PlantedStack) -> None:
    planted = {*half_made_pool(stack), *orphan(stack)}
    asks = [sys.executable, "-P", "-c", ASKS, str(stack.home), stack.stack_id]

    # All that can tell whose a process is, told of the asker and of the shell that started it.
    said = subprocess.run(
        ["sh", "-c", '"$@"; exit $?', str(stack.folder), *asks],
        env={"PYTHONPATH": str(ROOT)} | stack.env,
        cwd=stack.folder,
        stdout=subprocess.PIPE,
        check=True,
    )

    assert {tuple(found) for found in json.loads(said.stdout)} == planted


def test_what_was_kept_is_listed_as_kept_and_stays(stack: PlantedStack) -> None:
    stack.mark()
    models = keep_store(stack, "models")
    (models / "weights").write_text("dear")

    report = swept(stack)
    clear(report)

    assert report.left == ()
    assert [(item.kind, item.id, item.where) for item in report.kept] == [
        ("store", "models", str(models))
    ]
    assert (models / "weights").read_text() == "dear"
    assert sweep(stack.home, stack.stack).kept == report.kept, "its marker still names it"


def test_beside_a_kept_store_each_other_thing_is_left(stack: PlantedStack) -> None:
    stack.mark()
    models = keep_store(stack, "models")
    half_made_pool(stack)
    (stack.folder / "stores" / "bundle").mkdir()
    (stack.folder / "stores" / "note").write_text("")
    (stack.folder / "stack.json.partial").write_text("")  # its writer was killed

    report = swept(stack)

    assert left(report) == {
        ("folder", "pools", str(stack.folder / "pools")),
        ("folder", "bundle", str(stack.folder / "stores" / "bundle")),
        ("file", "note", str(stack.folder / "stores" / "note")),
        ("file", "stack.json.partial", str(stack.folder / "stack.json.partial")),
    }
    clear(report)
    assert left(swept(stack)) == set()
    assert models.is_dir()
    assert [item.id for item in swept(stack).kept] == ["models"]


def test_of_a_link_only_the_link_is_removed(stack: PlantedStack, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    link = stack.planter.outside(tempfile.gettempdir(), f"atoll-{stack.stack_id}")
    link.symlink_to(tmp_path / "theirs")

    clear(swept(stack))

    assert not link.is_symlink()
    assert (tmp_path / "theirs").is_dir()


def test_a_stranger_on_an_address_of_the_stack_is_named_but_not_ended(stack: PlantedStack) -> None:
    address = f"{local_subnet(stack.stack_id)}.77"
    pid, number = stack.planter.listen(AF_INET, address, {})

    report = swept(stack)
    clear(report)

    assert left(report) == {("port", f"{address}:{number}", f"pid {pid}")}
    assert left(swept(stack)) == left(report)


def test_a_process_that_has_the_pid_of_one_that_was_found_is_spared(stack: PlantedStack) -> None:
    orphan(stack)
    report = swept(stack)
    [item] = report.left
    assert isinstance(item, Running)
    earlier = item.process.model_copy(update={"start_ticks": item.process.start_ticks - 1})

    clear(SweepReport(left=(replace(item, process=earlier),), kept=()))

    assert is_alive(item.process)


def test_what_has_died_and_waits_for_its_parent_is_not_left(stack: PlantedStack) -> None:
    child = stack.planter.start(SLEEP, stack.env)

    os.kill(child.pid, 9)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie

    assert left(swept(stack)) == set()
