"""The folder that a model is exchanged as: Hugging Face's layout of a LlamaForCausalLM.

`transformers` opens it as it stands; here it is read and written without it.
"""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from runtime.errors import Corrupt
from runtime.model.decoder import Decoder, DecoderShape
from runtime.model.tokenizer import END, END_ID

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
TIED = "lm_head.weight"


class LlamaConfig(BaseModel):
    """The part of `config.json` that decides the arithmetic."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    max_position_embeddings: int
    rope_theta: float = 10_000.0
    rms_norm_eps: float
    tie_word_embeddings: bool

    def shape(self) -> DecoderShape:
        """The same in our words."""
        return DecoderShape(
            vocabulary=self.vocab_size,
            width=self.hidden_size,
            layers=self.num_hidden_layers,
            heads=self.num_attention_heads,
            kv_heads=self.num_key_value_heads,
            hidden=self.intermediate_size,
            context=self.max_position_embeddings,
            rope_theta=self.rope_theta,
            norm_eps=self.rms_norm_eps,
        )


def save(model: Decoder, shape: DecoderShape, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the five files of a model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    # The metadata is what transformers looks for to know the framework.
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    tokenizer.save(str(folder / TOKENIZER))
    _write(folder / CONFIG, _config(shape, str(next(iter(weights.values())).dtype)))
    _write(folder / "generation_config.json", _ends())
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END,
            "eos_token": END,
            "pad_token": END,
            "clean_up_tokenization_spaces": False,
            "model_max_length": shape.context,
        },
    )


def load(folder: Path) -> tuple[Decoder, DecoderShape, Tokenizer]:
    """Read a model folder; raises Corrupt if its files are damaged or do not fit each other."""
    try:
        config = LlamaConfig.model_validate_json((folder / CONFIG).read_bytes())
        weights = load_file(folder / WEIGHTS)
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    except (ValidationError, SafetensorError, OSError) as fault:
        raise Corrupt(f"{folder.name}: {fault}") from fault
    except Exception as fault:  # tokenizers raises bare Exception
        raise Corrupt(f"{folder.name}/{TOKENIZER}: {fault}") from fault
    if not config.tie_word_embeddings:
        raise Corrupt(f"{folder.name}/{CONFIG}: tie_word_embeddings: found false; allowed true")
    weights.pop(TIED, None)
    shape = config.shape()
    model = Decoder(shape)
    try:
        model.load_state_dict(weights)
    except RuntimeError as fault:
        raise Corrupt(f"{folder.name}/{WEIGHTS}: {fault}") from fault
    return model, shape, tokenizer


def _config(shape: DecoderShape, dtype: str) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "intermediate_size": shape.hidden,
        "max_position_embeddings": shape.context,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": shape.norm_eps,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "torch_dtype": dtype.removeprefix("torch."),
    } | _ends()


def _ends() -> dict[str, object]:
    return {"bos_token_id": END_ID, "eos_token_id": END_ID, "pad_token_id": END_ID}


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
