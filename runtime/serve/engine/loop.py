"""The engine's loop: open the model, make one real token, then obey and step in turn."""

import json
import queue
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from pydantic import BaseModel, ConfigDict

from runtime.errors import Corrupt
from runtime.lines import Line
from runtime.model.export import load
from runtime.serve.engine.batch import Batch
from runtime.serve.engine.protocol import (
    Cancel,
    Failed,
    Imported,
    Load,
    Loaded,
    Ping,
    Pong,
    Start,
    Unfit,
)
from runtime.serve.engine.runner import Runner
from runtime.serve.engine.scheduler import Scheduler

Inbox = queue.SimpleQueue[Load | Start | Cancel | Ping]
PROOF = Start(id="proof", prompt=(0,), tokens_max=2, temperature=0, top_p=1, seed=0)


class EndTokens(BaseModel):
    """The part of `generation_config.json` and `config.json` that says where a text ends."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    eos_token_id: int | tuple[int, ...] | None = None


def read_end_tokens(folder: Path) -> frozenset[int]:
    """The tokens that end a text; the first file that names any decides."""
    for path in (folder / "generation_config.json", folder / "config.json"):
        if path.exists():
            found = EndTokens.model_validate(json.loads(path.read_bytes())).eos_token_id
            if found is not None:
                return frozenset([found] if isinstance(found, int) else found)
    return frozenset()


def serve(inbox: Inbox, out: BinaryIO, threads: int) -> None:
    """Serve the one model that the first command names; returns only if that can't be."""
    torch.set_num_threads(threads)
    _send(out, [Imported()])
    command = inbox.get()
    assert isinstance(command, Load), "the first command loads the model"
    try:
        batch, loaded = open_batch(command)
    except Exception as fault:  # whatever is wrong with the files, the parent must learn of it
        _send(out, [Unfit(why=f"{type(fault).__name__}: {fault}")])
        return
    _send(out, [loaded])
    while True:
        while not inbox.empty() or not len(batch):
            _send(out, _obey(inbox.get(), batch))
        _send(out, batch.step())


def open_batch(command: Load) -> tuple[Batch, Loaded]:
    """Open a folder and prove it by a token; raises Corrupt if the model makes none."""
    folder = Path(command.folder)
    decoder, shape, tokenizer = load(folder)
    runner = Runner(decoder, shape, command.slots)
    batch = Batch(
        runner,
        Scheduler(slots=command.slots, queue=command.queue),
        lambda tokens: str(tokenizer.decode(list(tokens), skip_special_tokens=True)),
        read_end_tokens(folder),
        shape.context,
    )
    batch.start(PROOF)
    while len(batch):
        for answer in batch.step():
            if isinstance(answer, Failed):
                raise Corrupt(f"{folder.name}: {answer.why}")
    return batch, Loaded(context=shape.context, cache_bytes=runner.cache_bytes)


def _obey(command: Load | Start | Cancel | Ping, batch: Batch) -> Sequence[Line]:
    match command:
        case Start():
            failed = batch.start(command)
            return [failed] if failed else []
        case Cancel():
            batch.cancel(command.id)
            return []
        case Ping():
            return [Pong()]
        case Load():
            raise AssertionError("a process loads one model")


def _send(out: BinaryIO, lines: Sequence[Line]) -> None:
    if lines:
        out.write(b"".join(line.encode() for line in lines))
        out.flush()
