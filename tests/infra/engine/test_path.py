from collections.abc import Callable
from pathlib import Path

import pytest

from infra.engine.path import HOST, engine_on_path
from runtime.errors import Refused

Write = Callable[[Path, str, str], Path]
LOWEST = "3.259.0"


def _installed(folder: Path, version: str, write: Write) -> Path:
    write(folder, HOST, "exit 0")
    return write(folder, "pulumi", f"echo v{version}")


def _look(*folders: Path, ours: Path) -> Path:
    environ = {"PATH": ":".join(map(str, folders)) + ":/usr/bin:/bin"}
    return engine_on_path(environ, LOWEST, ours).pulumi


def test_an_old_one_is_passed_over_for_a_later_one_on_path(
    tmp_path: Path, program_of: Write
) -> None:
    _installed(tmp_path / "old", "3.99.9", program_of)
    new = _installed(tmp_path / "new", "3.260.0", program_of)

    assert _look(tmp_path / "old", tmp_path / "new", ours=tmp_path / "cache") == new


def test_the_refusal_names_each_one_that_was_found(tmp_path: Path, program_of: Write) -> None:
    _installed(tmp_path / "old", "3.99.9", program_of)
    program_of(tmp_path / "broken", "pulumi", "echo no such library >&2; exit 127")

    with pytest.raises(Refused) as refusal:
        _look(tmp_path / "old", tmp_path / "broken", ours=tmp_path / "cache")

    said = str(refusal.value)
    assert f"{tmp_path}/old/pulumi: found 3.99.9; allowed 3.259.0 or later" in said
    assert "no such library" in said


def test_one_without_a_python_language_host_is_passed_over(
    tmp_path: Path, program_of: Write
) -> None:
    program_of(tmp_path / "bare", "pulumi", "echo v3.300.0")

    with pytest.raises(Refused, match=f"found no {HOST} beside it nor on PATH"):
        _look(tmp_path / "bare", ours=tmp_path / "cache")


def test_a_link_into_our_own_cache_is_not_a_users_engine(tmp_path: Path, program_of: Write) -> None:
    cache, venv = tmp_path / "cache", tmp_path / "venv"
    kept = _installed(cache / "3.300.0-linux-x64", "3.300.0", program_of)
    venv.mkdir()
    (venv / "pulumi").symlink_to(kept)

    with pytest.raises(Refused, match="there is none"):
        _look(venv, ours=cache)


def test_a_link_to_nothing_is_none(tmp_path: Path) -> None:
    (tmp_path / "pulumi").symlink_to(tmp_path / "gone")

    with pytest.raises(Refused, match="there is none"):
        _look(tmp_path, ours=tmp_path / "cache")
