"""Running the Pulumi CLI on the stacks of a clone."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import yaml

from infra.engine.backend import URL, backend_folder, chosen_url, pulumi_env, stack_file
from infra.engine.broken_off import BrokenOff, broken_off
from infra.engine.lock import is_dead, locks_of
from infra.engine.release import Engine
from runtime.errors import Refused

__all__ = ["Pulumi", "pulumi_env"]

ASIDE_S = 120.0  # longest that a question to the backend may take


@dataclass(frozen=True, slots=True)
class Pulumi:
    """An engine, with the environment of `pulumi_env`, in the folder of Pulumi.yaml."""

    engine: Engine
    env: Mapping[str, str]
    root: Path

    def run(self, arguments: Sequence[str]) -> int:
        """Run to the end on our terminal; the exit status.

        After a Ctrl-C Pulumi ends in order first, then KeyboardInterrupt is raised.
        """
        child = subprocess.Popen(
            [str(self.engine.pulumi), *arguments], cwd=self.root, env=self._env()
        )
        with _leaving_to(child) as was_interrupted:
            status = child.wait()
        if was_interrupted.is_set():
            raise KeyboardInterrupt
        return status

    def select(self, stack: str) -> None:
        """See that the stack exists; the one selected by hand stays selected.

        Raises Refused with Pulumi's own words, or as `cancel_stale` does.
        """
        self.cancel_stale(stack)
        ran = self._aside(["stack", "init", stack, "--no-select"])
        if ran.returncode == 0 or "already exists" in ran.stderr:
            return
        said = _said(ran)
        if "incorrect passphrase" in said:
            path = stack_file(self.root, stack)
            said += (
                f"; its `encryptionsalt` belongs to another passphrase: unset "
                f"PULUMI_CONFIG_PASSPHRASE, or remove that line of {path} and repeat"
            )
        raise Refused(f"stack {stack}: {said}")

    def outputs(self, stack: str, show_secrets: bool = False) -> dict[str, object]:
        """The stack's outputs, secrets as `[secret]` unless asked for; empty before the first up.

        Raises Refused with Pulumi's own words.
        """
        arguments = ["stack", "output", "--json", "--stack", stack]
        ran = self._aside([*arguments, *(["--show-secrets"] if show_secrets else [])])
        if ran.returncode != 0:
            raise Refused(f"stack {stack}: {_said(ran)}")
        outputs = json.loads(ran.stdout or "{}")
        return dict(outputs)

    def cancel_stale(self, stack: str) -> None:
        """Remove the locks that a killed Pulumi of this machine has left.

        Raises Refused if the owner lives. Locks of other machines, and of backends that are not
        folders, are left to Pulumi, which names them.
        """
        backend = backend_folder(self.env.get(URL) or chosen_url(self.env, self.root), self.root)
        if backend is None:
            return
        hostname = socket.gethostname()
        for path, lock in locks_of(backend, self._project(), stack):
            if is_dead(lock, hostname):
                path.unlink(missing_ok=True)
            elif lock.hostname == hostname:
                raise Refused(
                    f"stack {stack}: found process {lock.pid} working on it since "
                    f"{lock.timestamp:%Y-%m-%d %H:%M:%S %Z}; allowed one at a time; "
                    f"wait for it, or stop it: kill -INT {lock.pid}"
                )

    def forget_broken_off(self, stack: str, see_to: Callable[[BrokenOff], None]) -> None:
        """Drop what a killed Pulumi has noted as broken off, so that nobody is asked about it.

        Before that, `see_to` what may exist unseen: it can't be made a second time. Raises Refused
        with Pulumi's own words, and what `see_to` raises.
        """
        exported = self._aside(["stack", "export", "--stack", stack])
        found = broken_off(exported.stdout if exported.returncode == 0 else "")
        if not found.is_any:
            return
        if found.begun:
            see_to(found)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(exported.stdout)  # an import drops what is pending
            file.flush()
            ran = self._aside(["stack", "import", "--stack", stack, "--file", file.name])
        if ran.returncode != 0:
            raise Refused(f"stack {stack}: {_said(ran)}")

    def _project(self) -> str:
        return str(yaml.safe_load((self.root / "Pulumi.yaml").read_text())["name"])

    def _env(self) -> dict[str, str]:
        """A kept engine's folder first: an older language host on PATH must not serve it."""
        if self.engine.origin == "path":
            return dict(self.env)
        folder = str(self.engine.pulumi.parent)
        return {**self.env, "PATH": os.pathsep.join([folder, self.env.get("PATH", os.defpath)])}

    def _aside(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run without a terminal, keeping what it says; raises Refused after ASIDE_S."""
        try:
            return subprocess.run(
                [str(self.engine.pulumi), *arguments, "--non-interactive", "--color", "never"],
                cwd=self.root,
                env=self._env(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=ASIDE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Refused(f"pulumi {' '.join(arguments)}: no end within {ASIDE_S:.0f} s") from None


def _said(ran: subprocess.CompletedProcess[str]) -> str:
    lines = [line.removeprefix("error: ").strip() for line in ran.stderr.splitlines()]
    return "; ".join(line for line in lines if line) or f"pulumi ended with {ran.returncode}"


@contextmanager
def _leaving_to(child: subprocess.Popen[bytes]) -> Iterator[threading.Event]:
    """Let the child end in order when somebody wants us to stop; the event tells that one did.

    A terminal's Ctrl-C has reached the child already, and a second one would make it break off;
    SIGTERM comes to us alone and is passed on as the first Ctrl-C.
    """
    was_interrupted = threading.Event()

    def on_signal(number: int, _: FrameType | None) -> None:
        was_interrupted.set()
        if number == signal.SIGTERM:
            child.send_signal(signal.SIGINT)

    if threading.current_thread() is not threading.main_thread():
        yield was_interrupted
        return
    kept = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield was_interrupted
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
