"""Makes `.venv` from the locks: `python infra/engine/set_up.py`, by any Python 3.11 or later.

Standard library only, since nothing is installed yet. A stamp in `.venv` tells what it was made
from, so a second run only compares; a lock of the kernel lets one run work while others wait.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LOCKS = ("requirements.lock", "runtime/requirements.lock")
SOURCES = (*LOCKS, "pyproject.toml", "infra/engine/set_up.py")
STAMP = "atoll-set-up"
STARTED = "infra.cli.main, infra.config, runtime.serve.replica, runtime.train.worker"


def set_up(root: Path) -> None:
    """Bring `.venv` to what the locks say; raises CalledProcessError or OSError."""
    venv = root / ".venv"
    (root / ".atoll").mkdir(exist_ok=True)
    with (root / ".atoll" / "set-up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is setting up; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if is_set_up(root):
            return
        began = time.monotonic()
        (venv / STAMP).unlink(missing_ok=True)
        _make_venv(venv)
        _install_uv(root, venv)
        _install_all(root, venv)
        _compile(root, venv)
        (venv / STAMP).write_text(wanted(root))
        say(f"set-up done in {time.monotonic() - began:.0f} s")


def is_set_up(root: Path) -> bool:
    """Whether `.venv` was made here, from the locks as they are."""
    venv = root / ".venv"
    try:
        return (venv / STAMP).read_text() == wanted(root) and (venv / "bin" / "python").exists()
    except OSError:
        return False


def wanted(root: Path) -> str:
    """Changes with all that `.venv` is made from, and with its place: programs in it name it."""
    digest = hashlib.sha256(str(root).encode())
    for name in SOURCES:
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def pinned(lock: str, name: str) -> str:
    """The lines of one package in a lock: its version and its hashes."""
    lines = iter(lock.splitlines(keepends=True))
    for line in lines:
        if line.startswith(f"{name}=="):
            kept = [line]
            for more in lines:
                if not more.lstrip().startswith("--hash"):
                    break
                kept.append(more)
            return "".join(kept).rstrip(" \\\n") + "\n"
    raise LookupError(f"found no {name} in the lock")


def say(line: str) -> None:
    """Progress, for people."""
    print(f"set-up: {line}", flush=True)


def _make_venv(venv: Path) -> None:
    python = venv / "bin" / "python"
    is_new_enough = _runs(python, "import sys; sys.exit(sys.version_info < (3, 11))")
    if is_new_enough and ((venv / "bin" / "uv").exists() or _runs(python, "import pip")):
        return
    say(f"making .venv with {sys.executable}")
    ran = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(venv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        shutil.rmtree(venv, ignore_errors=True)
        lines = [line for line in ran.stdout.splitlines() if line.strip()]
        sys.exit(
            f"set-up: {sys.executable} can't make a virtual environment: "
            f"{lines[0] if lines else 'it does not say why'}\n"
            "set-up: do: install Python's venv module (Debian and Ubuntu: apt install python3-venv)"
            " or name another Python: make setup PYTHON=/path/to/python3"
        )


def _runs(python: Path, code: str) -> bool:
    """Whether an interpreter is there and this code ends well in it."""
    try:
        return (
            subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


def _install_uv(root: Path, venv: Path) -> None:
    """By pip at first; later by uv itself, since pip is in no lock and goes with the first sync."""
    lock = pinned((root / LOCKS[0]).read_text(), "uv")
    uv, python = venv / "bin" / "uv", str(venv / "bin" / "python")
    say(f"installing {lock.split()[0]}")
    command = [str(uv), "pip", "install", "--python", python]
    if not uv.exists():
        command = [python, "-m", "pip", "install", "--disable-pip-version-check"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(lock)
        file.flush()
        command += ["--quiet", "--require-hashes", "--no-deps", "-r", file.name]
        subprocess.run(command, check=True)


def _install_all(root: Path, venv: Path) -> None:
    uv, python = str(venv / "bin" / "uv"), str(venv / "bin" / "python")
    env = {**os.environ, "VIRTUAL_ENV": str(venv)}
    say("installing what the locks name (PyTorch is large: some minutes the first time)")
    subprocess.run(
        [uv, "pip", "sync", "--python", python, "--require-hashes", *LOCKS],
        cwd=root,
        env=env,
        check=True,
    )
    say("installing atoll itself, editable")
    editable = ["--quiet", "--no-deps", "--no-build-isolation", "--editable", "."]
    subprocess.run(
        [uv, "pip", "install", "--python", python, *editable], cwd=root, env=env, check=True
    )


def _compile(root: Path, venv: Path) -> None:
    """Leave the bytecode of all that a stack's processes import.

    Otherwise the nodes of a first start compile PyTorch all at once, and with
    PYTHONDONTWRITEBYTECODE, which many images set, those of every start.
    """
    say("compiling what will be started")
    env = {name: told for name, told in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [str(venv / "bin" / "python"), "-c", f"import {STARTED}"]
    subprocess.run(command, cwd=root, env=env, check=True)


if __name__ == "__main__":
    try:
        set_up(ROOT)
    except subprocess.CalledProcessError as fault:
        sys.exit(f"set-up: `{' '.join(map(str, fault.cmd))}` ended with status {fault.returncode}")
    except KeyboardInterrupt:
        sys.exit(130)
