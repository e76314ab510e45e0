"""Which commits count; what a manifest notices of itself; who may go on from one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.checkpoint import Commit, Manifest, Recipe, Shard, counting, refuse_mismatch
from runtime.checkpoint.manifest import seal, unseal
from runtime.errors import Corrupt, Refused
from runtime.node_spec import ModelSpec
from tests.runtime.checkpoint.conftest import RECIPE, RUN, draft

SHARD = Shard(key=f"{RUN}/0-00000010-n/00000.safetensors", sha256="ab" * 32, size_bytes=5)


def manifest(step: int = 10) -> Manifest:
    return Manifest(**dict(draft(0, step)), shards=(SHARD,))


def test_a_fenced_nodes_commit_does_not_count() -> None:
    # Epoch 1 went on from step 10; epoch 0's first member did not know and committed step 20.
    found = [Commit(0, 10), Commit(0, 20), Commit(1, 15)]

    assert counting(found, [0, 10]) == [Commit(1, 15), Commit(0, 10)]


def test_a_commit_taken_back_by_a_later_epoch_does_not_count() -> None:
    # Epoch 2 found epoch 1's commit of step 30 damaged and went back to 10.
    found = [Commit(0, 10), Commit(1, 30), Commit(2, 12)]

    assert counting(found, [0, 10, 10]) == [Commit(2, 12), Commit(0, 10)]


@given(
    resume_steps=st.lists(st.integers(0, 50), min_size=1, max_size=6),
    commits=st.sets(st.tuples(st.integers(0, 7), st.integers(1, 60))),
)
def test_commits_that_count_form_one_history(
    resume_steps: list[int], commits: set[tuple[int, int]]
) -> None:
    found = counting([Commit(*pair) for pair in commits], resume_steps)

    assert found == sorted(found, reverse=True)
    for commit in found:
        assert all(commit.step <= later for later in resume_steps[commit.epoch + 1 :])


@given(epoch=st.integers(0, 10**6), step=st.integers(0, 10**10))
def test_a_commits_name_is_read_back(epoch: int, step: int) -> None:
    assert Commit.parse(Commit(epoch, step).name) == Commit(epoch, step)


@pytest.mark.parametrize(
    "name", ["", "-", "1-", "0-10", "0-00000010-n", "a-00000010", "0-0000001x"]
)
def test_what_is_no_commits_name_is_passed_over(name: str) -> None:
    assert Commit.parse(name) is None


def test_a_sealed_manifest_is_read_back() -> None:
    assert unseal(seal(manifest()), RUN, Commit(0, 10)) == manifest()


def test_every_single_flipped_bit_of_a_manifest_is_seen() -> None:
    content = seal(manifest())

    for at in range(len(content) * 8):
        spoilt = bytearray(content)
        spoilt[at // 8] ^= 1 << at % 8
        with pytest.raises(Corrupt):
            unseal(bytes(spoilt), RUN, Commit(0, 10))


@pytest.mark.parametrize(
    ("run", "commit"), [("run-2", Commit(0, 10)), (RUN, Commit(1, 10)), (RUN, Commit(0, 20))]
)
def test_a_manifest_under_anothers_name_is_corrupt(run: str, commit: Commit) -> None:
    with pytest.raises(Corrupt, match="is that of run-1 0-00000010"):
        unseal(seal(manifest()), run, commit)


def test_a_run_as_it_was_may_go_on() -> None:
    refuse_mismatch(manifest(), RECIPE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": ModelSpec(width=384)}, ["training.model.width: found 384; allowed 192"]),
        ({"tokenizer": "u"}, ["digest of the tokenizer: found u; allowed t"]),
        ({"data": "e"}, ["digest of training.data: found e; allowed d"]),
        ({"seed": 7, "global_batch": 8}, ["seed: found 7; allowed 0", "batch: found 8; allowed 4"]),
        ({"sequence_tokens": 64}, ["training.sequence_tokens: found 64; allowed 128"]),
    ],
)
def test_a_run_that_has_changed_is_refused_naming_both(
    change: dict[str, object], said: list[str]
) -> None:
    wanted = Recipe.model_validate(RECIPE.model_dump() | change)

    with pytest.raises(Refused) as refused:
        refuse_mismatch(manifest(), wanted)

    for part in said:
        assert part in str(refused.value)
    assert str(refused.value).count("found") == len(said)
