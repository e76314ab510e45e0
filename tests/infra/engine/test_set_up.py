"""What of the set-up can go wrong without a network. The whole is run by .ci/run."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.checkout import ROOT
from infra.engine.set_up import SOURCES, STAMP, is_set_up, pinned, wanted


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What set-up needs of a clone, with an environment that is in step."""
    for name in SOURCES:
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / ".venv" / STAMP).write_text(wanted(tmp_path))
    return tmp_path


def test_an_environment_in_step_costs_nothing(clone: Path) -> None:
    ran = subprocess.run(
        [sys.executable, clone / "infra/engine/set_up.py"],
        env={"HOME": "/nonexistent", "PATH": ""},  # nothing could be installed with these
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout == ""


@pytest.mark.parametrize("name", SOURCES)
def test_any_changed_source_asks_for_a_new_set_up(clone: Path, name: str) -> None:
    with (clone / name).open("a") as file:
        file.write("\n# changed\n")

    assert not is_set_up(clone)


def test_a_clone_that_was_moved_is_set_up_anew(clone: Path, tmp_path: Path) -> None:
    moved = clone.rename(tmp_path.parent / f"{tmp_path.name}-moved")

    assert not is_set_up(moved)


def test_an_environment_whose_python_is_gone_is_set_up_anew(clone: Path) -> None:
    (clone / ".venv" / "bin" / "python").unlink()

    assert not is_set_up(clone)


def test_uv_is_pinned_with_hashes_in_the_lock() -> None:
    lines = pinned((ROOT / "requirements.lock").read_text(), "uv").splitlines()

    assert lines[0].startswith("uv==")
    assert len(lines) > 1
    assert all("--hash=sha256:" in line for line in lines[1:])


def test_only_the_lines_of_the_one_package_are_taken() -> None:
    one = "a==1 \\\n    --hash=sha256:1\n"
    two = "uv==2 \\\n    --hash=sha256:2 \\\n    --hash=sha256:3\n"
    lock = f"{one}    # via b\n{two}    # via c\n"

    assert pinned(lock, "uv") == two
    assert pinned(lock, "a") == one


def test_a_python_without_venv_is_told_what_to_install(clone: Path) -> None:
    (clone / ".venv" / STAMP).unlink()
    shutil.rmtree(clone / ".venv" / "bin")
    (clone / "venv.py").write_text("raise SystemExit('ensurepip is not available')\n")

    ran = subprocess.run(
        [sys.executable, clone / "infra/engine/set_up.py"],
        env={**os.environ, "PYTHONPATH": str(clone)},  # our venv.py stands before the real one
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 1
    assert "ensurepip is not available" in ran.stderr
    assert "apt install python3-venv" in ran.stderr


def test_no_index_address_stands_in_the_locks() -> None:
    text = "".join((ROOT / name).read_text() for name in SOURCES if name.endswith(".lock"))

    assert "://" not in text
    assert "--index" not in text


def test_what_a_stack_starts_was_compiled_when_it_was_installed() -> None:
    for name in ("torch", "pulumi"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.cached is not None
        assert Path(spec.cached).exists(), name
