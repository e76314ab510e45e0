"""Pools that leave nothing behind."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra.provider.pool_under_test import MakePool, PoolUnderTest


@pytest.fixture
def make_pool(tmp_path: Path) -> Iterator[MakePool]:
    """Makes pools of random stacks, and leaves nothing of them."""
    made: list[PoolUnderTest] = []

    def make(**settings: object) -> PoolUnderTest:
        stack_id = secrets.token_hex(4)
        made.append(PoolUnderTest(tmp_path / stack_id, stack_id, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for pool in made:
        pool.stop()
        assert pool.processes() == []
