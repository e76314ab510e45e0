"""Secrets on one machine are files that nobody else may read."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.errors import Corrupt, Refused
from runtime.limits import ANSWER_BYTES_MAX
from tests.doubles.local_cloud import FakeLocal


@pytest.fixture
def local(tmp_path: Path) -> Iterator[FakeLocal]:
    fake = FakeLocal(tmp_path)
    yield fake
    fake.close()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_may_use_is_refused(local: FakeLocal, mode: int) -> None:
    reference = local.put_secret("key")
    Path(reference).chmod(mode)

    with pytest.raises(Refused, match="chmod 600"):
        local.cloud.secret(reference)


@pytest.mark.parametrize("reference", ["key", "./key", ""])
def test_a_path_that_depends_on_where_one_stands_is_refused(
    local: FakeLocal, reference: str
) -> None:
    with pytest.raises(Refused, match="absolute"):
        local.cloud.secret(reference)


def test_a_folder_is_no_secret(local: FakeLocal, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not read"):
        local.cloud.secret(str(tmp_path))


@pytest.mark.parametrize("size_bytes", [0, ANSWER_BYTES_MAX + 1])
def test_a_file_that_is_empty_or_too_large_is_no_secret(local: FakeLocal, size_bytes: int) -> None:
    reference = local.put_secret("key")
    Path(reference).write_bytes(b"x" * size_bytes)

    with pytest.raises(Corrupt, match="no text"):
        local.cloud.secret(reference)


def test_only_the_node_that_is_meant_has_notice(local: FakeLocal) -> None:
    local.reclaim(30.0)
    local.metadata.size = 1  # training-1, which is this node, is held no more

    assert local.cloud.notice() is None
