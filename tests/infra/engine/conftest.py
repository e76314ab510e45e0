"""A real engine, and small real projects for it."""

import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra.engine import Engine
from infra.engine.command import Pulumi, pulumi_env
from infra.engine.path import HOST
from infra.engine.release import VERSION

PROJECT = """\
name: atoll
runtime: python
main: infra/
stackConfigDir: stacks
options: {refresh: always}
config:
  atoll:cluster: {type: object, default: {}}
"""
# The salt of an empty passphrase, as in the stack files of the kit.
STACK = """\
# A comment of the user's.
config:
  atoll:cluster:
    cloud: local
encryptionsalt: v1:5JtP6IlKryA=:v1:syqL4Alm9xRbm2hz:AwuqTIjTGAfPfyBpxe7xnL9+OT0d2g==
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A committed project with an empty program."""
    root = tmp_path / "project"
    for folder in ("infra", "stacks"):
        (root / folder).mkdir(parents=True)
    (root / "Pulumi.yaml").write_text(PROJECT)
    (root / "stacks" / "Pulumi.local.yaml").write_text(STACK)
    (root / "infra" / "__main__.py").write_text("")
    (root / ".gitignore").write_text(".atoll/\n__pycache__/\n")
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The machine's variables, but nobody's login and nobody's choices."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")}
    return {**kept, "PULUMI_HOME": str(tmp_path / "pulumi-home")}


@pytest.fixture
def pulumi(engine: Engine, project: Path, environ: dict[str, str]) -> Pulumi:
    """The engine on the project, with the stack `local` in being."""
    env = pulumi_env(environ, project, project / ".atoll", "local")
    pulumi = Pulumi(engine, env, project)
    pulumi.select("local")
    return pulumi


@pytest.fixture
def program_of() -> Callable[[Path, str, str], Path]:
    """Write a shell program into a folder."""

    def write(folder: Path, name: str, body: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    return write


def _archive_of(members: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text), 0o755
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


GOOD = _archive_of(
    {
        "pulumi/pulumi": f"#!/bin/sh\necho v{VERSION}\n",
        f"pulumi/{HOST}": "#!/bin/sh\n",
        "pulumi/../../escaped": "out",
        "/pulumi/absolute": "out",
    }
)


class Server(ThreadingHTTPServer):
    """Serves one body for the pinned archive's name; may promise more bytes than it has."""

    body = GOOD
    missing_bytes = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []

    archive_of = staticmethod(_archive_of)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/sdk"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path != f"/sdk/pulumi-v{VERSION}-linux-x64.tar.gz":
            self.send_error(404)
            return
        self.send_response(200)
        length = len(self.server.body) + self.server.missing_bytes
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
