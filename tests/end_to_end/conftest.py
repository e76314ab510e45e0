"""Clones of the kit on this machine, driven as a person does it: by `atoll` and `pulumi`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest
import yaml

from infra.clouds.local.processes import pids, read_stat
from infra.engine import Engine, set_up
from tests.conftest import ROOT
from tests.tiny import write_texts

WAIT_S = 120.0  # a test gives up after this; none takes as long
LOOK_S = 0.05
PROGRAMS = ("atoll", "pulumi-resource-atoll")
# The salt of an empty passphrase, as in stacks/Pulumi.local.yaml.
SALT = "v1:HcSbHA3vy64=:v1:CQ60JhC9VqqB4Bpe:vX2QnOeGsdhHF1nEkBDJU4HXI58ENg=="
# Learns nothing worth serving, in seconds.
TINY: Mapping[str, Any] = {
    "model_name": "tiny",
    "model": {
        "vocabulary": 300,
        "width": 32,
        "layers": 1,
        "heads": 2,
        "kv_heads": 1,
        "hidden": 64,
        "context": 256,
    },
    "steps": 20,
    "global_batch": 4,
    "micro_batch": 2,
    "sequence_tokens": 32,
    "warmup_steps": 2,
    "checkpoint_every_steps": 5,
    "validate_every_steps": 20,
}


def eventually(look: Callable[[], object], what: str) -> None:
    """Wait for a fact; says what did not come true."""
    deadline = time.monotonic() + WAIT_S
    while not look():
        assert time.monotonic() < deadline, f"not within {WAIT_S:.0f} s: {what}"
        time.sleep(LOOK_S)


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    status: int
    out: str
    said: str  # standard error, or both where they were one

    @property
    def answer(self) -> dict[str, Any]:
        """The JSON value of `--json`."""
        assert self.status in (0, 1), self.said
        answer = json.loads(self.out)
        assert isinstance(answer, dict)
        return answer


@dataclass
class Clone:
    """A checkout with an environment of its own."""

    root: Path
    env: dict[str, str]
    stacks: list[str] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """Where it keeps stacks and state."""
        return self.root / ".atoll"

    def write_stack(self, stack: str, **parts: Mapping[str, object]) -> None:
        """A stack file: a tiny run on the clone's texts, and what else is said."""
        training = {**TINY, "data": str(self.root / "texts"), **parts.pop("training", {})}
        serving = {"max_tokens": 64, **parts.pop("serving", {})}
        config = {"training": training, "serving": serving, **parts}
        content = {
            "config": {f"atoll:{name}": dict(part) for name, part in config.items()},
            "encryptionsalt": SALT,
        }
        path = self.root / "stacks" / f"Pulumi.{stack}.yaml"
        path.write_text(yaml.safe_dump(content))
        if stack not in self.stacks:
            self.stacks.append(stack)

    def start(self, *command: str, out: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start a program of the clone, in a session of its own, as a terminal would."""
        is_by_hand = command[0] == "pulumi"
        return subprocess.Popen(
            [str(self.root / ".venv" / "bin" / command[0]), *command[1:]],
            cwd=self.root,
            env={**self.env, **self.by_hand()} if is_by_hand else self.env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def by_hand(self) -> dict[str, str]:
        """What the README says to choose before typing `pulumi`."""
        return {
            "PULUMI_BACKEND_URL": f"file://{self.home / 'pulumi'}",
            "PULUMI_CONFIG_PASSPHRASE": "",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }

    def run(self, *command: str) -> Ran:
        """Run a program of the clone to its end."""
        process = self.start(*command)
        out, said = process.communicate(timeout=WAIT_S)
        return Ran(process.returncode, out, said)

    def init(self, stack: str) -> None:
        """Make the stack by hand, as `atoll up` does unasked."""
        (self.home / "pulumi").mkdir(parents=True, exist_ok=True)
        ran = self.pulumi("stack", "init", stack, "--no-select")
        assert ran.status == 0 or "already exists" in ran.said, ran.said

    def atoll(self, *words: str) -> dict[str, Any]:
        """The answer of an `atoll` command."""
        return self.run("atoll", *words, "--json").answer

    def up(self, stack: str) -> dict[str, Any]:
        """`atoll up` must do."""
        ran = self.run("atoll", "up", "--stack", stack, "--json")
        assert ran.status == 0, ran.said
        return ran.answer

    def pulumi(self, *words: str) -> Ran:
        """What somebody types by hand after `activate`, the backend chosen as the README says."""
        return self.run("pulumi", *words, "--non-interactive", "--color", "never")

    def status(self, stack: str) -> dict[str, Any]:
        """`atoll status`."""
        return self.atoll("status", "--stack", stack)

    def outputs(self, stack: str) -> dict[str, Any]:
        """With the secret ones."""
        ran = self.pulumi("stack", "output", "--json", "--show-secrets", "--stack", stack)
        return ran.answer

    def state(self, stack: str) -> list[dict[str, Any]]:
        """The resources that Pulumi's state holds."""
        exported = self.pulumi("stack", "export", "--stack", stack).answer
        resources = exported["deployment"].get("resources", [])
        assert isinstance(resources, list)
        return resources

    def processes(self) -> list[int]:
        """What runs out of this clone, or for it."""
        mark = str(self.root).encode()
        return [pid for pid in pids() if pid != os.getpid() and _names(pid, mark)]

    def close(self) -> None:
        """Take down what a failed test has left."""
        for stack in self.stacks:
            self.run("atoll", "down", "--stack", stack, "--force")
            self.run("atoll", "sweep", "--stack", stack, "--delete", "--yes")
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)


def _names(pid: int, mark: bytes) -> bool:
    stat = read_stat(pid)
    if stat is None or stat.state in "ZX":
        return False
    told = b""
    for name in ("cmdline", "environ"):
        try:
            told += Path(f"/proc/{pid}/{name}").read_bytes()
        except OSError:
            continue
    return mark in told


def make_clone(root: Path, engine: Engine) -> Clone:
    """Copy the work tree as it is, with an environment that leans on this one's packages."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    _make_environment(root, engine)
    write_texts(root / "texts")
    # A `make` that runs the tests would make those in them talk of directories.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PULUMI_", "MAKE", "MFLAGS"))
    }
    programs = f"{root / '.venv' / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}"
    env = {
        **kept,
        "PATH": programs,
        "PULUMI_HOME": str(root.parent / "pulumi-home"),
    }
    return Clone(root, env)


def _make_environment(root: Path, engine: Engine) -> None:
    venv = root / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    [packages] = venv.glob("lib/python*/site-packages")
    ours = ROOT / ".venv" / "lib" / packages.parent.name / "site-packages"
    # First the clone: the packages beside us would else lead back to our own checkout.
    (packages / "clone.pth").write_text(f"{root}\n{ours}\n")
    for name in PROGRAMS:
        script = venv / "bin" / name
        lines = (ROOT / ".venv" / "bin" / name).read_text().splitlines(keepends=True)
        script.write_text("".join([f"#!{venv}/bin/python\n", *lines[1:]]))
        script.chmod(0o755)
    (venv / "bin" / "pulumi").symlink_to(engine.pulumi)
    (venv / set_up.STAMP).write_text(set_up.wanted(root))  # so that `make` finds it in step


@pytest.fixture(scope="module")
def clone(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """One clone for the tests of a module; nothing of it is left."""
    made = make_clone(tmp_path_factory.mktemp("clone") / "atoll", engine)
    yield made
    made.close()
    assert made.processes() == []
