"""Read what the HTTP side needs from a model folder; the weights are the engine's business."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from tokenizers import Tokenizer

from runtime.errors import Corrupt
from runtime.serve.engine.child import Engine
from runtime.serve.engine.protocol import Loaded
from runtime.serve.service import Version


class TokenizerConfig(BaseModel):
    """The part of `tokenizer_config.json` that matters here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    chat_template: str | None = None


def read_version(folder: Path, digest: str, loaded: Loaded, engine: Engine) -> Version:
    """A loaded version; raises Corrupt if its files make no sense."""
    config = folder / "tokenizer_config.json"
    try:
        template = (
            TokenizerConfig.model_validate_json(config.read_bytes()).chat_template
            if config.exists()
            else None
        )
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except ValidationError as fault:
        raise Corrupt(f"{config.name}: {fault}") from fault
    except Exception as fault:  # tokenizers raises bare Exception
        raise Corrupt(f"tokenizer.json: {fault}") from fault
    return Version(
        digest=digest,
        created=int((folder / "config.json").stat().st_mtime),
        context=loaded.context,
        tokenizer=tokenizer,
        chat_template=template,
        engine=engine,
    )
