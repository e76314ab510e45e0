"""A clone for a benchmark: what is committed, with an environment of its own, driven by `make`."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from infra.checkout import ROOT

LAST_LINES = 300  # of a `make` that failed, in the message


@dataclass(frozen=True, slots=True)
class Line:
    """A line of output, and the seconds since its command was started."""

    at_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Made:
    """A `make` that has ended."""

    seconds: float
    lines: tuple[Line, ...]

    def first(self, pattern: str) -> float:
        """When the first line that matches was there; raises LookupError if none was."""
        for line in self.lines:
            if re.search(pattern, line.text):
                return line.at_s
        tail = "\n".join(line.text for line in self.lines[-20:])
        raise LookupError(f"no line matches {pattern!r}; the last ones:\n{tail}")


@dataclass(slots=True)
class BenchmarkClone:
    """A checkout of HEAD."""

    root: Path
    env: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    @classmethod
    def of_head(cls, folder: Path) -> "BenchmarkClone":
        """Clone what is committed."""
        root = folder / "atoll"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(root)], check=True)
        env = {name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")}
        return cls(root, env)

    def make(self, *words: str, may_fail: bool = False) -> Made:
        """Run a `make`, its output without a terminal; raises RuntimeError with its last lines."""
        started_s = time.monotonic()
        process = subprocess.Popen(
            ["make", *words],
            cwd=self.root,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines = tuple(self._lines(process, started_s))
        status = process.wait()
        if status != 0 and not may_fail:
            tail = "\n".join(line.text for line in lines[-LAST_LINES:])
            raise RuntimeError(f"make {' '.join(words)} ended with status {status}:\n{tail}")
        return Made(time.monotonic() - started_s, lines)

    def settings(self, **training: object) -> None:
        """Add settings of training to the stack `local`."""
        path = self.root / "stacks" / "Pulumi.local.yaml"
        content = yaml.safe_load(path.read_text())
        content["config"]["atoll:training"] |= training
        path.write_text(yaml.safe_dump(content))

    def atoll(self, *words: str) -> Mapping[str, Any]:
        """The answer of an `atoll` command."""
        ran = subprocess.run(
            [self.root / ".venv" / "bin" / "atoll", *words, "--json"],
            cwd=self.root,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        answer = json.loads(ran.stdout)
        assert isinstance(answer, dict)
        return answer

    def outputs(self) -> Mapping[str, Any]:
        """The stack's outputs, with the secret ones."""
        env = {
            **self.env,
            "PULUMI_BACKEND_URL": f"file://{self.root}/.atoll/pulumi",
            "PULUMI_CONFIG_PASSPHRASE": "",
        }
        pulumi = self.root / ".venv" / "bin" / "pulumi"
        words = ["stack", "output", "--json", "--show-secrets", "--stack", "local"]
        ran = subprocess.run(
            [pulumi, *words], cwd=self.root, env=env, capture_output=True, check=True
        )
        outputs = json.loads(ran.stdout)
        assert isinstance(outputs, dict)
        return outputs

    @staticmethod
    def _lines(process: "subprocess.Popen[str]", started_s: float) -> Iterator[Line]:
        assert process.stdout is not None
        for text in process.stdout:
            yield Line(time.monotonic() - started_s, text.rstrip("\n"))
