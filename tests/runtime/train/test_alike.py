"""Members whose weights differ are found, and told apart from those that are right."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from runtime.train.alike import compare, fingerprint
from runtime.train.strategy import Diverged, PeerLost
from tests.runtime.train.group import Group, at_once

STEP = 7


def tensors() -> dict[str, Tensor]:
    dice = torch.Generator().manual_seed(0)  # its own: members are threads of one process
    return {name: torch.randn(3, 5, generator=dice) for name in ("a", "b", "c")}


def flipped(name: str, at: int, bit: int) -> dict[str, Tensor]:
    """One bit of one number is another."""
    found = tensors()
    word = found[name].view(torch.int32).flatten()
    word[at] ^= 1 << bit if bit < 31 else -(1 << 31)
    return found


@given(st.sampled_from("abc"), st.integers(0, 14), st.integers(0, 31))
def test_any_one_flipped_bit_is_another_fingerprint(name: str, at: int, bit: int) -> None:
    assert fingerprint(flipped(name, at, bit)) != fingerprint(tensors())


def test_tensors_that_swap_places_are_another_fingerprint() -> None:
    found = tensors()

    swapped = {"a": found["b"], "b": found["a"], "c": found["c"]}

    assert fingerprint(swapped) != fingerprint(found)
    assert fingerprint(tensors()) == fingerprint(found)


def outcomes(wrong: dict[int, dict[str, Tensor]], members: int) -> list[str]:
    """What each member of a group of real ranks hears."""
    group = Group()

    def work(rank: int) -> str:
        strategy = group.join(torch.nn.Linear(1, 1), rank, members)
        try:
            compare(strategy, wrong.get(rank, tensors()), STEP)
        except PeerLost as fault:
            return f"{type(fault).__name__}: {fault}"
        finally:
            strategy.close()
        return "alike"

    return at_once(members, work)


def test_members_with_the_same_bits_go_on() -> None:
    assert outcomes({}, 3) == ["alike"] * 3


def test_the_majority_keeps_its_state_and_the_other_loses_its_own() -> None:
    told = outcomes({1: flipped("b", 3, 20)}, 3)

    why = "weights differ after step 7: of ranks [1]"
    assert told == [f"PeerLost: {why}", f"Diverged: {why}", f"PeerLost: {why}"]


def test_without_a_majority_nobodys_state_is_trusted() -> None:
    told = outcomes({1: flipped("b", 3, 20)}, 2)

    assert all(one.startswith(f"{Diverged.__name__}: weights differ") for one in told)


@pytest.mark.parametrize("members", [1, 2])
def test_numbers_that_are_none_are_compared_too(members: int) -> None:
    odd = {"a": torch.tensor([float("nan"), float("inf"), -0.0])}

    assert outcomes(dict.fromkeys(range(members), odd), members) == ["alike"] * members
