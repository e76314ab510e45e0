"""The third candidate: the CLI built from its Go modules, with the kit's own language host.

`build/` pins every module by go.sum; about three minutes on two cores, once per machine. The Go
proxy does not serve the stock Python host of this release, hence `host.py`.
"""

import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from infra.engine.cache import Report
from infra.engine.go import BUILD, go_toolchain
from infra.engine.path import HOST
from infra.engine.release import VERSION
from runtime.errors import Refused

PACKAGE = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
VERSION_FLAG = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"
BUILD_S_MAX = 3600.0  # a slow machine with a slow line
LINES_PER_REPORT = 200
SAID_LINES = 3  # of a failed build, in the message

# The engine starts the host in the program's folder, somewhere below the project: the nearest
# environment upwards is the project's. -P keeps that folder off the host's own path.
HOST_SCRIPT = """\
#!/bin/sh
at=$PWD
while [ ! -x "$at/.venv/bin/python" ] && [ -n "$at" ]; do at=${at%/*}; done
if [ -x "$at/.venv/bin/python" ]; then python=$at/.venv/bin/python
else python=${ATOLL_PYTHON:-python3}; fi
exec "$python" -P -m infra.engine.host "$@"
"""


def build_with_go(folder: Path, environ: Mapping[str, str], report: Report) -> None:
    """Put the CLI and the kit's language host in a folder; raises Refused with the reason."""
    with go_toolchain(folder / "go", environ, report) as go:
        report(f"building Pulumi {VERSION} with {go.program}: minutes the first time, then kept")
        command = [
            *(go.program, "build", "-v", "-mod=readonly", "-buildvcs=false"),
            *("-tags", "osusergo,grpcnotrace"),
            *("-ldflags", f"-s -w -X {VERSION_FLAG}=v{VERSION}"),
            *("-o", str(folder / "pulumi"), PACKAGE),
        ]
        # GOWORK: a workspace above the clone has no say.
        _run(command, {**go.env, "CGO_ENABLED": "0", "GOWORK": "off"}, report)
    write_host(folder)


def write_host(folder: Path) -> None:
    """The script that the engine starts as its Python language host."""
    host = folder / HOST
    host.write_text(HOST_SCRIPT)
    host.chmod(0o755)


def _run(command: list[str], env: Mapping[str, str], report: Report) -> None:
    """Run the build; a line of progress per LINES_PER_REPORT modules or packages."""
    with tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen(
            command, cwd=BUILD, env=dict(env), stderr=subprocess.PIPE, text=True
        )
        timer = threading.Timer(BUILD_S_MAX, child.kill)
        timer.start()
        try:
            assert child.stderr is not None
            _follow(child.stderr, said, report)
            status = child.wait()
        finally:
            timer.cancel()
            child.kill()
            child.wait()
        if status != 0:
            said.seek(0)
            last = [line.strip() for line in said if line.strip()][-SAID_LINES:]
            raise Refused(f"`go build` ended with status {status}: {' / '.join(last)}")


def _follow(lines: IO[str], said: IO[str], report: Report) -> None:
    modules = packages = 0
    for line in lines:
        said.write(line)
        if line.startswith("go: downloading"):
            modules += 1
            if modules % LINES_PER_REPORT == 0:
                report(f"building Pulumi {VERSION}: {modules} modules fetched")
        else:
            packages += 1
            if packages % LINES_PER_REPORT == 0:
                report(f"building Pulumi {VERSION}: {packages} packages compiled")
