"""A strict double of a cloud, and a project that the real engine deploys to it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.engine import Engine
from tests.doubles.strict_cloud import StrictCloud, write_launchers

WAIT_S = 300.0
PROJECT = """\
name: strict
runtime: python
plugins: {providers: [{name: aws, path: ../bin}]}
"""


@pytest.fixture
def strict_cloud(tmp_path: Path) -> StrictCloud:
    """Empty; nothing is to go wrong."""
    return StrictCloud(tmp_path / "cloud.db")


@dataclass(frozen=True)
class Ran:
    """An engine that has ended."""

    status: int
    said: str


@dataclass(frozen=True)
class Bench:
    """A project of its own with a stack, and the cloud that it deploys to."""

    engine: Engine
    root: Path
    env: Mapping[str, str]
    cloud: StrictCloud

    def write(self, program: str) -> None:
        """What the stack consists of."""
        (self.root / "__main__.py").write_text(program)

    def run(self, *words: str, **chosen: str) -> Ran:
        """Pulumi on the stack; what is chosen reaches the program as JSON in CHOSEN."""
        ran = subprocess.run(
            [self.engine.pulumi, *words, "--stack", "s", "--non-interactive", "--color", "never"],
            cwd=self.root,
            env={**self.env, "CHOSEN": json.dumps(chosen)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WAIT_S,
        )
        return Ran(ran.returncode, ran.stdout)

    def up(self, *words: str, **chosen: str) -> Ran:
        """Deploy, whatever there is to do."""
        return self.run("up", "--yes", "--skip-preview", *words, **chosen)

    def destroy(self) -> Ran:
        """Take it down."""
        return self.run("destroy", "--yes", "--skip-preview")

    def state(self) -> str:
        """All that Pulumi knows of it."""
        return self.run("stack", "export").said


@pytest.fixture
def bench(engine: Engine, tmp_path: Path, strict_cloud: StrictCloud) -> Bench:
    """An empty program, and a stack in being."""
    root = tmp_path / "project"
    for folder in (root, tmp_path / "state"):
        folder.mkdir()
    (root / "Pulumi.yaml").write_text(PROJECT)
    write_launchers(tmp_path / "bin", "aws")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")}
    programs = os.pathsep.join([str(engine.pulumi.parent), kept.get("PATH", os.defpath)])
    env = {
        **kept,
        **strict_cloud.env,
        "PATH": programs,  # the engine's own host first
        "ATOLL_PYTHON": sys.executable,
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_BACKEND_URL": f"file://{tmp_path / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }
    bench = Bench(engine, root, env, strict_cloud)
    assert bench.run("stack", "init").status == 0
    return bench
