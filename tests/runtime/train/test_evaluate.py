"""Figures on held-out text: right for a model whose loss is known, and the same from any share."""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from runtime.model.decoder import Decoder, DecoderShape
from runtime.train.data import Samples
from runtime.train.evaluate import BATCH, Held, evaluate
from runtime.train.strategy.local import Local
from tests.runtime.train.group import Group, at_once

pytestmark = pytest.mark.usefixtures("one_thread")

VOCABULARY = 300
SEQUENCE_TOKENS = 8
SHAPE = DecoderShape(
    vocabulary=VOCABULARY, width=16, layers=1, heads=2, kv_heads=1, hidden=32, context=32
)
ALL = 10_000


def build_model(seed: int) -> Decoder:
    """Random, and wild enough that losses differ from sample to sample."""
    model = Decoder(SHAPE)
    model.init(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(20)
    return model


def build_samples(seed: int, samples: int) -> Samples:
    tokens = np.random.default_rng(seed).integers(
        0, VOCABULARY, samples * SEQUENCE_TOKENS + 1, dtype=np.uint16
    )
    return Samples(tokens, SEQUENCE_TOKENS)


def build_token_bytes(seed: int) -> Tensor:
    """None for the end of a document, some for the others."""
    lengths = torch.randint(1, 9, (VOCABULARY,), generator=torch.Generator().manual_seed(seed))
    lengths[0] = 0
    return lengths


@dataclass(frozen=True)
class Asked(Samples):
    """Samples that note which were asked for."""

    asked: list[int] = field(default_factory=list)

    def batch(self, samples: list[int]) -> tuple[Tensor, Tensor]:
        """As ever."""
        self.asked.extend(samples)
        return super().batch(samples)


def test_a_model_that_knows_nothing_needs_all_bits_of_the_vocabulary(seed: int) -> None:
    model = Decoder(SHAPE)
    for parameter in model.parameters():
        parameter.detach().zero_()
    samples, token_bytes = build_samples(seed, 50), build_token_bytes(seed)

    held = evaluate(model, samples, token_bytes, Local(model), ALL)

    guessed = samples.tokens[1:].astype(np.int64)
    bytes_per_token = float(token_bytes[torch.from_numpy(guessed)].float().mean())
    assert held.loss == pytest.approx(math.log(VOCABULARY))
    assert held.bits_per_byte == pytest.approx(math.log2(VOCABULARY) / bytes_per_token)
    assert held.tokens == 50 * SEQUENCE_TOKENS


def test_text_of_ends_alone_has_no_bytes_and_does_no_harm() -> None:
    model = build_model(0)
    samples = Samples(np.zeros(SEQUENCE_TOKENS * 3 + 1, dtype=np.uint16), SEQUENCE_TOKENS)

    held = evaluate(model, samples, build_token_bytes(0), Local(model), ALL)

    assert math.isfinite(held.bits_per_byte)


@pytest.mark.parametrize(("world_size", "samples"), [(2, BATCH * 2 + 5), (3, 10), (3, 2)], ids=str)
def test_members_find_together_what_one_finds_alone(
    seed: int, world_size: int, samples: int
) -> None:
    model, group = build_model(seed), Group()
    held_out, token_bytes = build_samples(seed, samples), build_token_bytes(seed)
    alone = evaluate(model, held_out, token_bytes, Local(model), ALL)

    def work(rank: int) -> Held:
        strategy = group.join(torch.nn.Linear(1, 1), rank, world_size)
        try:
            return evaluate(model, held_out, token_bytes, strategy, ALL)
        finally:
            strategy.close()

    members = at_once(world_size, work)

    assert members == [members[0]] * world_size
    assert members[0].loss == pytest.approx(alone.loss, rel=1e-5)
    assert members[0].bits_per_byte == pytest.approx(alone.bits_per_byte, rel=1e-5)
    assert members[0].tokens == alone.tokens == samples * SEQUENCE_TOKENS


def test_the_loss_is_the_mean_over_tokens_whatever_the_batch(seed: int) -> None:
    model = build_model(seed)
    samples, token_bytes = build_samples(seed, BATCH + 1), build_token_bytes(seed)

    whole = evaluate(model, samples, token_bytes, Local(model), ALL)

    singles = [
        evaluate(
            model,
            Samples(samples.tokens[at * SEQUENCE_TOKENS :][: SEQUENCE_TOKENS + 1], SEQUENCE_TOKENS),
            token_bytes,
            Local(model),
            ALL,
        ).loss
        for at in range(BATCH + 1)
    ]
    assert max(singles) - min(singles) > 0.1
    assert whole.loss == pytest.approx(sum(singles) / len(singles), rel=1e-5)


@pytest.mark.parametrize(("samples", "samples_max"), [(100, 7), (100, 99), (100, 100), (5, 100)])
def test_a_quick_look_is_spread_over_the_whole_text(samples: int, samples_max: int) -> None:
    model = build_model(0)
    asked = Asked(build_samples(0, samples).tokens, SEQUENCE_TOKENS)

    held = evaluate(model, asked, build_token_bytes(0), Local(model), samples_max)

    gaps = {after - before for before, after in pairwise(asked.asked)}
    assert len(asked.asked) == min(samples, samples_max)
    assert held.tokens == len(asked.asked) * SEQUENCE_TOKENS
    assert asked.asked[0] == 0
    assert samples - asked.asked[-1] <= max(gaps) + 1
    assert max(gaps) - min(gaps) <= 1


def test_a_look_leaves_no_trace_in_the_model(seed: int) -> None:
    model = build_model(seed)
    before = [parameter.detach().clone() for parameter in model.parameters()]

    evaluate(model, build_samples(seed, 3), build_token_bytes(seed), Local(model), ALL)

    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(map(torch.equal, model.parameters(), before))
