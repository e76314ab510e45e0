"""The kit's language host and shim under the real engine. Skipped on a user's own engine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.engine import Engine
from infra.engine.command import Pulumi
from infra.engine.go_build import write_host
from infra.engine.packages import packages_in
from infra.engine.path import HOST

DEADLINE_S = 60.0
LOOK_S = 0.1


@pytest.fixture
def pulumi(pulumi: Pulumi, tmp_path: Path) -> Pulumi:
    """The engine with the kit's host beside it, whatever host the machine's engine has."""
    folder = tmp_path / "engine"
    folder.mkdir()
    program = folder / "pulumi"
    program.symlink_to(pulumi.engine.pulumi)
    if pulumi.engine.origin != "built":
        program.unlink()
        shutil.copy(pulumi.engine.pulumi, program)  # hosts are looked for beside the real file
        write_host(folder)
    own = Engine(pulumi=program, version=pulumi.engine.version, origin="built")
    return Pulumi(own, pulumi.env, pulumi.root)


def _write(pulumi: Pulumi, program: str) -> None:
    (pulumi.root / "infra" / "__main__.py").write_text(program)


def _ask(pulumi: Pulumi, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [pulumi.engine.pulumi, *arguments, "--stack", "local", "--non-interactive"],
        cwd=pulumi.root,
        env=dict(pulumi.env),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@pytest.mark.slow
def test_a_program_gets_its_folder_its_config_and_its_secrets(pulumi: Pulumi) -> None:
    subprocess.run(
        [pulumi.engine.pulumi, "config", "set", "--secret", "key", "hunter2", "-s", "local"],
        cwd=pulumi.root,
        env=dict(pulumi.env),
        check=True,
    )
    (pulumi.root / "infra" / "beside.py").write_text("NAME = 'beside'\n")
    _write(
        pulumi,
        """
import os, sys
import pulumi
import beside
config = pulumi.Config()
pulumi.export("cluster", config.require_object("cluster"))
pulumi.export("key", config.require("key"))
pulumi.export("is_secret", config.is_secret("key") if hasattr(config, "is_secret") else True)
pulumi.export("facts", [__name__, os.getcwd(), sys.path[0], beside.NAME, sys.argv,
    pulumi.get_project(), pulumi.get_stack(), pulumi.get_root_directory()])
pulumi.export("strangers", [p for p in sys.path if p.endswith("infra/engine")])
""",
    )

    status = pulumi.run(["up", "--yes", "--stack", "local", "--non-interactive"])

    outputs = pulumi.outputs("local")
    assert status == 0
    assert outputs["cluster"] == {"cloud": "local"}
    root = str(pulumi.root)
    assert outputs["facts"] == [
        *("__main__", f"{root}/infra", ".", "beside", ["."], "atoll", "local", root)
    ]
    assert outputs["strangers"] == []


@pytest.mark.slow
def test_secret_outputs_are_hidden_unless_asked_for(pulumi: Pulumi) -> None:
    _write(pulumi, "import pulumi\npulumi.export('key', pulumi.Output.secret('hunter2'))\n")

    pulumi.run(["up", "--yes", "--stack", "local", "--skip-preview", "--non-interactive"])

    assert pulumi.outputs("local") == {"key": "[secret]"}
    assert pulumi.outputs("local", show_secrets=True) == {"key": "hunter2"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "shown"),
    [
        ("import pulumi\nraise pulumi.RunError('all replicas are out')\n", "all replicas are out"),
        ("raise ValueError('all replicas are out')\n", "ValueError: all replicas are out"),
    ],
)
def test_an_error_of_the_program_is_shown_once(pulumi: Pulumi, program: str, shown: str) -> None:
    _write(pulumi, program)

    ran = _ask(pulumi, "preview")

    diagnostics = (ran.stdout + ran.stderr).partition("Diagnostics:")[2]
    assert ran.returncode != 0
    assert diagnostics.count(shown) == 1
    assert "non-zero exit code" not in diagnostics


@pytest.mark.slow
def test_a_virtualenv_that_is_not_there_is_named(pulumi: Pulumi) -> None:
    file = pulumi.root / "Pulumi.yaml"
    runtime = "runtime: {name: python, options: {virtualenv: .venv}}"
    file.write_text(file.read_text().replace("runtime: python", runtime))

    ran = _ask(pulumi, "preview")

    assert ran.returncode != 0
    assert f"found no {pulumi.root}/.venv/bin/python" in ran.stdout + ran.stderr
    assert "make setup" in ran.stdout + ran.stderr


@pytest.mark.slow
def test_a_policy_pack_runs_and_its_refusal_fails_the_preview(pulumi: Pulumi) -> None:
    pack = pulumi.root / "pack"
    pack.mkdir()
    (pack / "PulumiPolicy.yaml").write_text("runtime: python\n")
    (pack / "__main__.py").write_text(
        """
from pulumi_policy import EnforcementLevel, PolicyPack, StackValidationPolicy

def refuse(args, report):
    report(f"{len(args.resources)} resources are too many")

PolicyPack("strict", policies=[StackValidationPolicy(
    name="never", description="Nothing is allowed.",
    enforcement_level=EnforcementLevel.MANDATORY, validate=refuse)])
"""
    )

    ran = _ask(pulumi, "preview", "--policy-pack", str(pack))

    assert ran.returncode != 0
    assert "[mandatory]  never" in ran.stdout
    assert "1 resources are too many" in ran.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="orphans are looked for in /proc")
def test_host_and_program_end_with_an_engine_that_is_killed(pulumi: Pulumi) -> None:
    _write(pulumi, "import threading\nopen('started', 'w')\nthreading.Event().wait()\n")
    marks = {**pulumi.env, "ATOLL_TEST_MARK": str(pulumi.root)}
    up = subprocess.Popen(
        [pulumi.engine.pulumi, "up", "--yes", "--stack", "local", "--skip-preview"],
        cwd=pulumi.root,
        env=marks,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    _until(lambda: (pulumi.root / "infra" / "started").exists())
    assert len(list(_marked(pulumi.root))) >= 3  # engine, host, program

    os.kill(up.pid, signal.SIGKILL)
    up.wait()

    _until(lambda: not list(_marked(pulumi.root)))


def _until(is_so: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < ends_s
        time.sleep(LOOK_S)  # other processes tell us nothing


def _marked(root: Path) -> Iterator[int]:
    """Processes that have this test's mark in their environment."""
    mark = f"ATOLL_TEST_MARK={root}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)
        except OSError:
            continue


def test_the_host_script_takes_the_environment_of_the_project_above(tmp_path: Path) -> None:
    write_host(tmp_path)
    python = tmp_path / "project" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$0 $*"\n')
    python.chmod(0o755)
    below = tmp_path / "project" / "infra" / "a folder"
    below.mkdir(parents=True)

    said = subprocess.check_output([tmp_path / HOST, "127.0.0.1:1"], cwd=below, text=True)

    assert said == f"{python} -P -m infra.engine.host 127.0.0.1:1\n"


def test_the_host_script_falls_back_to_the_python_it_is_told(tmp_path: Path) -> None:
    write_host(tmp_path)
    told = tmp_path / "told"
    told.write_text('#!/bin/sh\necho "told $*"\n')
    told.chmod(0o755)

    said = subprocess.check_output(
        [tmp_path / HOST, "x"], cwd=tmp_path, env={"ATOLL_PYTHON": str(told)}, text=True
    )

    assert said == "told -P -m infra.engine.host x\n"


def test_the_sdks_of_an_environment_name_the_plugins_they_want(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name, sdk in {
        "pulumi_aws": {"resource": True, "name": "aws", "version": "7.51.1"},
        "pulumi_policy": {"resource": False, "name": "policy", "version": "1.0.0"},
        "pulumi_old": {"resource": True},
    }.items():
        (packages / name).mkdir(parents=True)
        (packages / name / "pulumi-plugin.json").write_text(json.dumps(sdk))

    found = packages_in(tmp_path / "bin" / "python")

    assert [(p.name, p.kind, p.version) for p in found] == [("aws", "resource", "v7.51.1")]
