"""Against a local server with made-up archives: what is wrong with one is said, nothing is kept."""

from __future__ import annotations

import hashlib
import socket
from typing import TYPE_CHECKING

import pytest

from infra.engine.archive import ARCHIVES_VARIABLE, fetch_archive
from infra.engine.path import HOST
from infra.engine.release import SHA256_VARIABLE
from runtime.errors import Refused

if TYPE_CHECKING:
    from pathlib import Path

    from tests.infra.engine.conftest import Server

PLATFORM = "linux-x64"


def _fetch(folder: Path, url: str, body: bytes) -> list[str]:
    told: list[str] = []
    folder.mkdir()
    environ = {ARCHIVES_VARIABLE: url, SHA256_VARIABLE: hashlib.sha256(body).hexdigest()}
    fetch_archive(folder, PLATFORM, environ, told.append)
    return told


def test_a_good_archive_is_unpacked_and_nothing_outside_the_folder_is_written(
    tmp_path: Path, server: Server
) -> None:
    told = _fetch(tmp_path / "engine", server.url, server.body)

    assert sorted(p.name for p in (tmp_path / "engine").iterdir()) == ["pulumi", HOST]
    assert (tmp_path / "engine" / "pulumi").stat().st_mode & 0o111
    assert [p.name for p in tmp_path.iterdir()] == ["engine"]
    assert told[-1].endswith("100 %")


def test_a_wrong_digest_is_refused_before_anything_is_unpacked(
    tmp_path: Path, server: Server
) -> None:
    with pytest.raises(Refused, match=f"found SHA-256 {hashlib.sha256(server.body).hexdigest()}"):
        _fetch(tmp_path / "engine", server.url, b"another")

    assert list((tmp_path / "engine").iterdir()) == []


def test_a_download_that_breaks_off_says_so(tmp_path: Path, server: Server) -> None:
    server.missing_bytes = 100

    with pytest.raises(
        Refused, match=f"{len(server.body)} of {len(server.body) + 100} bytes|more expected"
    ):
        _fetch(tmp_path / "engine", server.url, server.body)

    assert list((tmp_path / "engine").iterdir()) == []


def test_an_archive_without_a_language_host_is_refused(tmp_path: Path, server: Server) -> None:
    server.body = server.archive_of({"pulumi/pulumi": "#!/bin/sh\n"})

    with pytest.raises(Refused, match=f"no {HOST} in it"):
        _fetch(tmp_path / "engine", server.url, server.body)


def test_a_body_that_is_no_archive_is_refused(tmp_path: Path, server: Server) -> None:
    server.body = b"<html>please log in</html>"

    with pytest.raises(Refused, match="not a gzip file"):
        _fetch(tmp_path / "engine", server.url, server.body)


def test_a_release_that_is_not_there_is_refused(tmp_path: Path, server: Server) -> None:
    with pytest.raises(Refused, match="404"):
        _fetch(tmp_path / "engine", f"{server.url}/elsewhere", b"")


def test_a_platform_without_a_digest_is_never_fetched(tmp_path: Path, server: Server) -> None:
    with pytest.raises(Refused, match=r"no SHA-256 is pinned .* so it is not fetched"):
        fetch_archive(tmp_path, "linux-riscv64", {ARCHIVES_VARIABLE: server.url}, print)

    assert server.asked == []


def test_only_the_web_is_asked(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"allowed an http\(s\) address"):
        _fetch(tmp_path / "engine", f"file://{tmp_path}", b"")


def test_a_closed_port_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with pytest.raises(Refused, match="refused"):
        _fetch(tmp_path / "engine", f"http://127.0.0.1:{port}", b"")


@pytest.mark.timeout(30)  # the server never answers: without a limit this would not end
@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"

        with pytest.raises(Refused, match="no answer within 4 s"):
            _fetch(tmp_path / "engine", url, b"")
