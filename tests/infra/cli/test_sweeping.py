"""`atoll sweep` as a program sees it: real processes and folders of a stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from infra.cli.main import main

if TYPE_CHECKING:
    from tests.infra.cli.conftest import StandingStack


@pytest.fixture
def orphan(standing: StandingStack) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the stack that nobody keeps."""
    known = {
        "ATOLL_STACK_ID": standing.stack_id,
        "ATOLL_STACK": standing.stack,
        "ATOLL_HOME": str(standing.home),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"],
        env=os.environ | known,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


@pytest.mark.usefixtures("home")
def test_nothing_left_is_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--json"]) == 0

    out, err = capsys.readouterr()
    assert json.loads(out) == {"stack": "local", "left": [], "kept": [], "usd_per_hour": 0.0}
    assert err == "stack local: 0 left\n"


def test_what_is_left_is_listed_with_status_1(
    standing: StandingStack,
    orphan: subprocess.Popen[bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["sweep", "--json"]) == 1

    left = json.loads(capsys.readouterr().out)["left"]
    assert {"kind", "id", "where", "usd_per_hour"} == set(left[0])
    assert ("process", str(orphan.pid)) in {(item["kind"], item["id"]) for item in left}
    assert str(standing.folder) in {item["where"] for item in left}


def test_an_orphan_is_found_after_its_folder_is_gone(
    standing: StandingStack,
    orphan: subprocess.Popen[bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    standing.remove()

    assert main(["sweep", "--json"]) == 1
    assert [item["id"] for item in json.loads(capsys.readouterr().out)["left"]] == [str(orphan.pid)]


def test_delete_asks_and_takes_nobody_there_for_a_no(
    standing: StandingStack, orphan: subprocess.Popen[bytes]
) -> None:
    assert main(["sweep", "--delete"]) == 1

    assert orphan.poll() is None
    assert standing.folder.is_dir()


def test_delete_removes_all_and_shows_that_nothing_is_left(
    standing: StandingStack,
    orphan: subprocess.Popen[bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["sweep", "--delete", "--yes"]) == 0

    orphan.wait()
    assert not standing.folder.exists()
    assert capsys.readouterr().out.endswith("stack local: 0 left\n")
