"""The decoder against transformers, on the folder that it is exported as."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import pytest
import torch
from safetensors.torch import load_file, save_file

from runtime.errors import Corrupt
from runtime.model import export, tokenizer
from runtime.model.decoder import Decoder, DecoderShape

if TYPE_CHECKING:
    from pathlib import Path

SHAPES = {
    "grouped": DecoderShape(
        vocabulary=300, width=64, layers=3, heads=4, kv_heads=2, hidden=96, context=128
    ),
    "plain": DecoderShape(
        vocabulary=300, width=48, layers=2, heads=6, kv_heads=6, hidden=64, context=96,
        rope_theta=500.0, norm_eps=1e-6,
    ),
}  # fmt: skip
TEXTS = ["def add(a, b):\n    return a + b\n", "naïve café ☕\n"] * 10
PROMPTS = 5
NEW_TOKENS = 64


def lively(shape: DecoderShape) -> Decoder:
    """Weights so large that greedy text wanders."""
    model = Decoder(shape)
    model.init(torch.Generator().manual_seed(3))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(20)
    return model


def greedy(model: Decoder, prompt: list[int], tokens: int) -> list[int]:
    """Without a cache: all anew for every token."""
    text = list(prompt)
    with torch.inference_mode():
        for _ in range(tokens):
            text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
    return text[len(prompt) :]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_transformers_opens_the_folder_and_makes_the_same_greedy_tokens(
    name: str, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    shape = SHAPES[name]
    trained = tokenizer.train(TEXTS, shape.vocabulary)
    export.save(lively(shape), shape, trained, tmp_path)
    model, read_shape, read_tokenizer = export.load(tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    their_tokenizer = AutoTokenizer.from_pretrained(tmp_path)

    assert read_shape == shape
    text = "def é☕(a"
    assert their_tokenizer(text)["input_ids"] == read_tokenizer.encode(text).ids
    assert their_tokenizer.decode(read_tokenizer.encode(text).ids) == text
    for seed in range(PROMPTS):
        prompt = torch.randint(1, 260, (9,), generator=torch.Generator().manual_seed(seed))
        made = theirs.generate(
            prompt[None], do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=None
        )
        assert made[0, len(prompt) :].tolist() == greedy(
            model, cast("list[int]", prompt.tolist()), NEW_TOKENS
        )


def test_given_positions_stand_for_the_ones_that_are_counted() -> None:
    model = lively(SHAPES["grouped"])
    tokens = torch.randint(0, 300, (2, 20))
    positions = torch.arange(20).expand(2, -1)

    assert torch.equal(model(tokens), model(tokens, positions))


def test_no_token_sees_a_later_one() -> None:
    model = lively(SHAPES["plain"])
    tokens = torch.randint(0, 300, (1, 30))
    changed = tokens.clone()
    changed[0, 20:] = (changed[0, 20:] + 1) % 300

    before, after = model(tokens), model(changed)

    assert torch.equal(before[0, :20], after[0, :20])
    assert not torch.equal(before[0, 20], after[0, 20])


def test_the_same_seed_draws_the_same_weights() -> None:
    one, two = (Decoder(SHAPES["plain"]) for _ in range(2))

    one.init(torch.Generator().manual_seed(5))
    two.init(torch.Generator().manual_seed(5))

    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_a_damaged_folder_is_corrupt_and_says_which_file(tmp_path: Path) -> None:
    shape = SHAPES["plain"]

    def fresh() -> None:
        export.save(lively(shape), shape, tokenizer.train(TEXTS, 300), tmp_path)

    def cut_weights() -> None:
        path = tmp_path / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])

    def lose_a_tensor() -> None:
        weights = load_file(tmp_path / "model.safetensors")
        weights.popitem()
        save_file(weights, tmp_path / "model.safetensors")

    def untie() -> None:
        config = json.loads((tmp_path / "config.json").read_text())
        config["tie_word_embeddings"] = False
        (tmp_path / "config.json").write_text(json.dumps(config))

    damages = {
        "safetensors|header|incomplete": cut_weights,
        r"model\.safetensors": lose_a_tensor,
        "tie_word_embeddings": untie,
        r"tokenizer\.json": lambda: (tmp_path / "tokenizer.json").write_text("{}"),
        "json": lambda: (tmp_path / "config.json").write_text("{"),
    }
    for message, damage in damages.items():
        fresh()
        damage()  # type: ignore[no-untyped-call]
        with pytest.raises(Corrupt, match=f"(?i){message}"):
            export.load(tmp_path)
