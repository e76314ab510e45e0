"""Checkpoints of a few bytes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtime import checkpoint
from runtime.checkpoint import Draft, Manifest, Recipe
from runtime.node_spec import ModelSpec
from runtime.objects import Store
from tests.doubles.store import HookedStore

AT = datetime(2026, 1, 2, tzinfo=UTC)
RUN = "run-1"
RECIPE = Recipe(
    model=ModelSpec(), data="d", tokenizer="t", seed=0, global_batch=4, sequence_tokens=128
)


@pytest.fixture
def store(tmp_path: Path) -> HookedStore:
    """A folder."""
    return HookedStore(tmp_path / "checkpoints")


def draft(epoch: int, step: int, nonce: str = "n") -> Draft:
    """Before it is written."""
    return Draft(
        **dict(RECIPE), run=RUN, epoch=epoch, step=step, samples=step * 4, at=AT, nonce=nonce
    )


def save(
    store: Store,
    epoch: int,
    step: int,
    nonce: str = "n",
    shards: Sequence[bytes | Path] | None = None,
) -> Manifest:
    """A checkpoint of two shards, if not told otherwise."""
    content = [b"a" * step, b"b" * epoch] if shards is None else shards
    return checkpoint.save(store, draft(epoch, step, nonce), content)
