"""What the README and the first steps tell people to type, typed."""

import os
import re
import subprocess

import pytest

from tests.conftest import ROOT
from tests.end_to_end.conftest import WAIT_S, Clone
from tests.test_docs import blocks

pytestmark = pytest.mark.slow


def test_what_the_readme_types_by_hand_and_the_first_client_work(clone: Clone) -> None:
    clone.write_stack("local")
    [by_hand] = [block for block in blocks(ROOT / "README.md") if "source .venv" in block]
    [client] = blocks(ROOT / "docs" / "start.md", "python")
    (clone.root / "client.py").write_text(client.replace("atoll-code", "tiny"))
    lines = by_hand.splitlines()
    lines.insert(lines.index("pulumi destroy -s local"), "python client.py")
    script = "\n".join(["set -eu", *lines])

    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=clone.root,
        env={**clone.env, "PULUMI_SKIP_CONFIRMATIONS": "true"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WAIT_S,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout
    assert re.search(r"run \S+ published", ran.stdout)
    assert "0 left" in ran.stdout
    assert clone.processes() == []
    assert os.listdir(clone.home / "stacks") == []


def test_make_up_and_make_down_are_the_two_commands(clone: Clone) -> None:
    clone.write_stack("local")

    up, again, down = (
        subprocess.run(
            ["make", target],
            cwd=clone.root,
            env=clone.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        for target in ("up", "up", "down")
    )

    assert up.returncode == 0, up.stdout + up.stderr
    told = [
        r"engine: Pulumi",
        r"Previewing update",
        r"Updating \(local\)",
        r"run \S+ claimed",
        r"step \d+/20  loss",
        r"run \S+ published",
        r"model version tiny",
        r"replica replica-\d ready with",
        r"question, and the answer through the balancer",
        r"endpoint http://",
        r"  make down",
    ]
    places = [match.start() for words in told if (match := re.search(words, up.stdout))]
    assert len(places) == len(told), up.stdout
    assert places == sorted(places)
    assert "nothing to change: stack local is up" in again.stdout
    assert down.returncode == 0, down.stdout + down.stderr
    assert down.stdout.rstrip().endswith("stack local: 0 left")
