"""What is looked up on this machine before the plan decides; folders and rights are real."""

import os
import secrets
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.checkout import ROOT
from infra.clouds.local.facts import local_facts
from infra.plan.facts import Facts
from infra.plan.fault import Faults
from infra.plan.plan import plan
from infra.plan.spec import StackSpec, TrainingSpec
from tests.infra.privileges import without_privileges

sizes = st.lists(st.integers(0, 100), max_size=5)


def facts_of(data: str | Path) -> Facts:
    """The facts of a stack that trains on this."""
    return local_facts(StackSpec(training=TrainingSpec(data=str(data))))


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody may enter; those above `tmp_path` are for its user alone."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        (folder / "texts").mkdir()
        (folder / "texts" / "one.txt").write_text("a text")
        yield folder


def test_the_cores_are_those_that_this_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        facts = facts_of("python-stdlib")
    finally:
        os.sched_setaffinity(0, allowed)

    assert facts.cores == 1


def test_the_standard_library_is_there_and_each_node_finds_its_own() -> None:
    facts = facts_of("python-stdlib")

    assert facts.data_fault is None
    assert facts.data is None
    assert facts.data_bytes > Path(sysconfig.get_path("stdlib"), "typing.py").stat().st_size


@settings(max_examples=30)
@given(sizes, sizes)
def test_all_files_below_a_folder_count(here: list[int], below: list[int]) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "below" / "deep").mkdir(parents=True)
        for place, each in ((folder, here), (folder / "below" / "deep", below)):
            for index, size in enumerate(each):
                (place / str(index)).write_bytes(b"x" * size)

        facts = facts_of(folder)

    total = sum(here + below)
    assert (facts.data_files, facts.data_bytes) == (len(here + below), total)
    assert facts.data_fault == (None if total else f"no text in {folder}")


def test_a_link_to_a_folder_above_is_not_followed_round_and_round(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("a text")
    (tmp_path / "again").symlink_to(tmp_path)

    assert facts_of(tmp_path).data_files == 1


def test_one_file_is_data_too(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("a text")

    facts = facts_of(tmp_path / "one.txt")

    assert (facts.data_files, facts.data_bytes, facts.data_fault) == (1, 6, None)
    assert facts.data == str(tmp_path / "one.txt")


def test_a_relative_path_is_from_the_root_of_the_clone_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stacks").mkdir()  # empty: not the one that is meant

    spec = StackSpec(training=TrainingSpec(data="stacks"))
    train = plan(spec, local_facts(spec)).pools[0].train

    assert train is not None
    assert train.data == str(ROOT / "stacks")


def test_the_home_folder_is_written_out_for_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "one.txt").write_text("a text")

    facts = facts_of("~/one.txt")

    assert facts.data == str(tmp_path / "one.txt")
    assert facts.data_fault is None


def test_what_is_not_there_is_a_fault_that_names_the_whole_path() -> None:
    name = secrets.token_hex(8)

    assert facts_of(name).data_fault == f"No such file or directory at {ROOT / name}"
    assert facts_of(f"~{name}/x").data_fault == f"No such file or directory at {ROOT}/~{name}/x"


@pytest.mark.parametrize("name", ["loop", "x" * 300], ids=["loop", "long"])
def test_a_path_that_leads_nowhere_is_a_fault_of_the_stack_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    spec = StackSpec(training=TrainingSpec(data=str(tmp_path / name)))

    with pytest.raises(Faults) as raised:
        plan(spec, local_facts(spec))

    [fault] = raised.value.faults
    assert fault.at == "atoll:training.data"
    assert str(tmp_path / name) in fault.found


@pytest.mark.parametrize("closed", ["texts", "texts/one.txt"], ids=["folder", "file"])
def test_what_may_not_be_read_is_a_fault(public: Path, closed: str) -> None:
    with without_privileges():
        before = facts_of(public / closed)
    (public / closed).chmod(0)

    with without_privileges():
        facts = facts_of(public / closed)

    assert before.data_fault is None
    assert facts.data_fault == f"Permission denied at {public / closed}"


def test_a_closed_folder_further_below_is_named(public: Path) -> None:
    closed = public / "texts" / "closed"
    closed.mkdir(mode=0)

    with without_privileges():
        facts = facts_of(public)

    assert facts.data_fault == f"Permission denied at {closed}"
