"""The boot text and its unit as the tools of bash, of systemd and of cloud-init want them.

No tool of cloud-init's own: its schema is of `#cloud-config`, and says nothing of a script.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.plan.boot import BODY, TEXT_BYTES_MAX, boot_text, unit_text
from tests.infra.plan.test_boot import GATEWAY, GOLDEN, SERVING, boot, template

SHELLCHECK = Path(sys.executable).with_name("shellcheck")
ANALYZE = shutil.which("systemd-analyze")
# The unit holds variables for systemd and its shell, not for the text that carries it.
EXCLUDED = "SC2016"
# The node's own interpreter is made by the text.
NOT_YET = "Command /opt/atoll/venv/bin/python is not executable"
ROLES = {
    "training": template(),
    "replica": template(pool="replica", train=None, serve=SERVING),
    "gateway": template(pool="gateway", train=None, gateway=GATEWAY),
}


def shellcheck(text: str) -> str:
    """All that it says of a bash text, style included."""
    ran = subprocess.run(
        [SHELLCHECK, "--norc", "--shell=bash", f"--exclude={EXCLUDED}", "--format=gcc", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode in (0, 1), ran.stderr  # else it could not read it
    return ran.stdout


def complaints(unit: str, folder: Path) -> list[str]:
    """What systemd would say of a unit when it loads it."""
    assert ANALYZE is not None
    path = folder / "atoll.service"
    path.write_text(unit)
    ran = subprocess.run(
        [ANALYZE, "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )
    return [line for line in ran.stderr.splitlines() if NOT_YET not in line]


@pytest.mark.parametrize("path", [GOLDEN, BODY], ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(path: Path) -> None:
    assert shellcheck(path.read_text()) == ""


@pytest.mark.parametrize("role", ROLES)
def test_shellcheck_has_nothing_to_say_of_what_any_pool_starts_with(role: str) -> None:
    assert shellcheck(boot_text(boot(ROLES[role]))) == ""


def test_shellcheck_would_find_a_word_that_is_split() -> None:
    assert "[SC2086]" in shellcheck('#!/bin/bash\nrm -r $1\necho "$1"\n')


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not on this machine")
@pytest.mark.parametrize("role", ROLES)
def test_systemd_loads_the_unit_without_a_complaint(role: str, tmp_path: Path) -> None:
    assert complaints(unit_text(ROLES[role], 35.0), tmp_path) == []


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not on this machine")
def test_systemd_would_complain_of_a_key_that_it_does_not_know(tmp_path: Path) -> None:
    unit = unit_text(template(), 35.0).replace("OOMPolicy", "OOMPollicy")

    [said] = complaints(unit, tmp_path)

    assert "OOMPollicy" in said


@pytest.mark.parametrize("role", ROLES)
def test_cloud_init_takes_the_text_for_a_script_and_runs_it(role: str) -> None:
    data = boot_text(boot(ROLES[role])).encode()

    # By its first bytes alone it knows a script from a document of its own, in part or in MIME.
    assert data.startswith(b"#!/bin/bash\n")
    assert len(data) <= TEXT_BYTES_MAX == 16 * 1024
    assert b"\r" not in data
    assert b"\0" not in data
    assert data.endswith(b"\n")
