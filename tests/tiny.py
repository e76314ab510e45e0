"""A run of seconds: a tiny model, and some text with something to learn in it."""

from collections.abc import Mapping
from pathlib import Path

from runtime.node_spec import ModelSpec, TrainSpec

MODEL = "tiny"


def tiny_spec(data: Path, **changes: object) -> TrainSpec:
    """A run of seconds."""
    spec = TrainSpec(
        model_name=MODEL,
        model=ModelSpec(
            vocabulary=300, width=32, layers=1, heads=2, kv_heads=1, hidden=64, context=64
        ),
        data=str(data),
        nodes=2,
        min_nodes=1,
        steps=60,
        global_batch=6,
        micro_batch=2,
        sequence_tokens=32,
        learning_rate=1e-2,
        warmup_steps=5,
        weight_decay=0.1,
        clip_norm=1.0,
        seed=0,
        checkpoint_every_steps=10,
        validate_every_steps=20,
        join_s=60,
        pause_s_max=60,
        unsaved_s_max=600,
        watchdog_s=5,
        threads_per_worker=1,
    )
    return TrainSpec.model_validate(spec.model_dump() | changes)


def texts(files: int = 12) -> Mapping[str, str]:
    """Some text with something to learn in it, by the names of its files."""
    return {
        f"part{number}.py": "".join(
            f"def add_{n}(a, b):\n    return a + b + {n * number}\n" for n in range(60)
        )
        for number in range(files)
    }


def write_texts(folder: Path, files: int = 12) -> Path:
    """The same as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts(files).items():
        (folder / name).write_text(text)
    return folder
