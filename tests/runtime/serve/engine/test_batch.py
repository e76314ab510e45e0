"""Scheduler, runner, cache, sampling and text together, on a real decoder in this process."""

import pytest
import torch

from runtime.model.decoder import Decoder, DecoderShape
from runtime.serve.engine.batch import Batch
from runtime.serve.engine.protocol import Failed, Piece, Start
from runtime.serve.engine.runner import Runner
from runtime.serve.engine.scheduler import Scheduler

SHAPE = DecoderShape(
    vocabulary=260, width=32, layers=2, heads=4, kv_heads=2, hidden=64, context=128
)
PROMPTS = [[5, 6, 7], [9] * 40, [1, 2, 3, 4, 5, 6, 7, 8, 9], [200], list(range(100))]


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    """Random weights, large enough that the text wanders."""
    torch.manual_seed(11)
    model = Decoder(SHAPE)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.4)
    return model


def new_batch(decoder: Decoder, slots: int = 4, chunk_tokens: int = 16) -> Batch:
    scheduler = Scheduler(slots=slots, queue=8, chunk_tokens=chunk_tokens)
    return Batch(
        Runner(decoder, SHAPE, slots),
        scheduler,
        lambda tokens: bytes(token % 128 for token in tokens).decode(),
        end_tokens=frozenset(),
        context=SHAPE.context,
    )


def ask(
    id: str, prompt: list[int], tokens_max: int = 12, temperature: float = 0, seed: int = 0
) -> Start:
    return Start(
        id=id,
        prompt=tuple(prompt),
        tokens_max=tokens_max,
        temperature=temperature,
        top_p=0.95,
        seed=seed,
    )


def finish(batch: Batch) -> dict[str, list[int]]:
    """The tokens of every request."""
    tokens: dict[str, list[int]] = {}
    while len(batch):
        for answer in batch.step():
            assert isinstance(answer, Piece)
            tokens.setdefault(answer.id, []).extend(answer.tokens)
    return tokens


def run_alone(decoder: Decoder, start: Start, chunk_tokens: int = 16) -> list[int]:
    batch = new_batch(decoder, chunk_tokens=chunk_tokens)
    assert batch.start(start) is None
    return finish(batch)[start.id]


def test_the_cache_gives_what_the_whole_sequence_gives(decoder: Decoder) -> None:
    for prompt in PROMPTS:
        sequence = list(prompt)
        for _ in range(12):
            with torch.inference_mode():
                logits = decoder(torch.tensor([sequence]))[0, -1]
            sequence.append(int(logits.argmax()))

        assert run_alone(decoder, ask("a", prompt)) == sequence[len(prompt) :]


def test_a_prompt_in_chunks_gives_what_it_gives_in_one(decoder: Decoder) -> None:
    one, chunked = (run_alone(decoder, ask("a", PROMPTS[4]), size) for size in (128, 7))

    assert one == chunked


def test_tokens_do_not_depend_on_batch_mates_that_come_and_go(decoder: Decoder) -> None:
    starts = [ask(str(i), prompt, tokens_max=6 + 3 * i) for i, prompt in enumerate(PROMPTS)]
    alone = {start.id: run_alone(decoder, start) for start in starts}
    batch = new_batch(decoder, slots=3)

    seen: dict[str, list[int]] = {}
    for start in starts:
        assert batch.start(start) is None
        for answer in batch.step():
            assert isinstance(answer, Piece)
            seen.setdefault(answer.id, []).extend(answer.tokens)
    for id, tokens in finish(batch).items():
        seen.setdefault(id, []).extend(tokens)

    assert seen == alone


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_another_engine_continues_a_sampled_stream_exactly(decoder: Decoder, cut: int) -> None:
    prompt = PROMPTS[2]
    whole = run_alone(decoder, ask("a", prompt, temperature=1.2, seed=42))

    rest = run_alone(
        decoder,
        ask("b", prompt + whole[:cut], tokens_max=12 - cut, temperature=1.2, seed=42),
    )

    assert whole[:cut] + rest == whole


def test_a_cancelled_request_leaves_its_slot_to_the_next(decoder: Decoder) -> None:
    batch = new_batch(decoder, slots=1)
    expected = run_alone(decoder, ask("next", PROMPTS[0]))
    batch.start(ask("first", PROMPTS[1], tokens_max=80))
    for _ in range(10):
        batch.step()
    batch.start(ask("next", PROMPTS[0]))

    batch.cancel("first")
    batch.cancel("first")

    assert finish(batch) == {"next": expected}


def test_a_sequence_ends_where_the_context_does(decoder: Decoder) -> None:
    assert len(run_alone(decoder, ask("a", [1] * 120, tokens_max=50))) == 8


def test_an_end_token_ends_the_text_and_is_not_part_of_it(decoder: Decoder) -> None:
    tokens = run_alone(decoder, ask("a", PROMPTS[0], tokens_max=12))
    end = tokens[4]
    batch = Batch(
        Runner(decoder, SHAPE, 1),
        Scheduler(slots=1, queue=0),
        lambda ids: "".join(f"<{id}>" for id in ids),
        end_tokens=frozenset({end}),
        context=SHAPE.context,
    )
    batch.start(ask("a", PROMPTS[0], tokens_max=12))

    pieces = []
    while len(batch):
        pieces += [piece for piece in batch.step() if isinstance(piece, Piece)]

    assert pieces[-1].end == "stop"
    assert f"<{end}>" not in "".join(piece.text for piece in pieces)


def test_numbers_that_are_not_finite_fail_one_request_and_free_its_slot(decoder: Decoder) -> None:
    class Broken(Runner):
        def prefill(self, slot: int, tokens: object, start: int) -> torch.Tensor:
            return torch.full((SHAPE.vocabulary,), torch.nan)

    batch = Batch(
        Broken(decoder, SHAPE, 1), Scheduler(slots=1, queue=0), str, frozenset(), SHAPE.context
    )
    batch.start(ask("a", [1]))

    answers = batch.step()

    assert [type(answer) for answer in answers] == [Failed]
    assert len(batch) == 0


def test_what_does_not_fit_is_failed_at_once(decoder: Decoder) -> None:
    batch = new_batch(decoder, slots=1)

    assert isinstance(batch.start(ask("long", [1] * 128)), Failed)
    for i in range(9):
        assert batch.start(ask(str(i), [1])) is None
    assert isinstance(batch.start(ask("one too many", [1])), Failed)
