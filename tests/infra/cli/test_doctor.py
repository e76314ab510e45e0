"""`atoll doctor` on this machine and on worse ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from infra.cli.doctor import doctor, locked
from infra.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.usefixtures("home")
def test_every_check_has_a_state_and_each_that_is_not_ok_says_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["doctor", "--json"])

    checks = json.loads(capsys.readouterr().out)["checks"]
    assert {check["name"] for check in checks} >= {
        "python",
        "packages",
        "engine",
        "go",
        "disk",
        "memory",
        "cores",
        "addresses",
        "envoy",
        "stack file",
    }
    assert all(check["do"] for check in checks if check["state"] != "ok")
    assert code == int(any(check["state"] == "fault" for check in checks))


def test_threads_forced_by_the_environment_are_a_warning(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "16")

    (found,) = [check for check in doctor(home, "local").checks if check.name == "cores"]

    assert found.state == "warn"
    assert "OMP_NUM_THREADS=16" in found.found


def test_a_stack_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    (found,) = [check for check in doctor(tmp_path, "nowhere").checks if check.name == "stack file"]

    assert found.state == "fault"


def test_lines_of_a_lock_file_are_read_as_the_installer_reads_them() -> None:
    text = (
        "# made by a tool\n"
        "anyio==4.16.0 \\\n"
        "    --hash=sha256:00\n"
        "    # via httpx\n"
        "cuda-bindings==13.5.0 ; sys_platform == 'linux' \\\n"
        "    --hash=sha256:00\n"
        "uvicorn[standard]==0.35.0\n"
    )

    assert list(locked(text)) == [
        ("anyio", "4.16.0", False),
        ("cuda-bindings", "13.5.0", True),
        ("uvicorn", "0.35.0", False),
    ]
