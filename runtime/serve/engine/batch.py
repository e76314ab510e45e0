"""All requests that one engine works on: what a step means for each of them.

Puts scheduler, runner, sampling and text together; knows nothing of processes and pipes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from runtime.errors import Refused
from runtime.serve.engine.protocol import Failed, Piece, Start
from runtime.serve.engine.sampling import Sampling, choose
from runtime.serve.engine.scheduler import Row, Scheduler, Step
from runtime.serve.engine.text import Detokenizer, StopStrings


class Runs(Protocol):
    """The part of the runner that a batch needs."""

    def prefill(self, slot: int, tokens: Sequence[int], start: int) -> Tensor: ...

    def decode(self, slots: Sequence[int], tokens: Sequence[int], at: Sequence[int]) -> Tensor: ...


@dataclass(slots=True)
class Generation:
    """What belongs to one request beside its row."""

    ask: Start
    row: Row
    sampling: Sampling
    text: Detokenizer
    stops: StopStrings

    @property
    def made(self) -> int:
        """New tokens so far."""
        return len(self.row.tokens) - self.row.prompt_tokens


class Batch:
    """Requests in, pieces out, one step at a time."""

    def __init__(
        self,
        runner: Runs,
        scheduler: Scheduler,
        decode: Callable[[Sequence[int]], str],
        end_tokens: frozenset[int],
        context: int,
    ) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._decode = decode
        self._end_tokens = end_tokens
        self._context = context
        self._open: dict[str, Generation] = {}

    def __len__(self) -> int:
        return len(self._open)

    def start(self, ask: Start) -> Failed | None:
        """Take a request in; a Failed says why not."""
        if len(ask.prompt) >= self._context:
            return Failed(id=ask.id, why=f"the prompt fills the context of {self._context} tokens")
        try:
            row = self._scheduler.add(ask.id, list(ask.prompt))
        except Refused as fault:
            return Failed(id=ask.id, why=str(fault))
        self._open[ask.id] = Generation(
            ask=ask,
            row=row,
            sampling=Sampling(temperature=ask.temperature, top_p=ask.top_p, seed=ask.seed),
            text=Detokenizer(self._decode),
            stops=StopStrings(ask.stop),
        )
        return None

    def cancel(self, id: str) -> None:
        """Forget a request and free its slot, if it is still there."""
        self._open.pop(id, None)
        self._scheduler.remove(id)

    def step(self) -> list[Piece | Failed]:
        """Compute one step; what it brought, at most one message per request."""
        step = self._scheduler.next_step()
        return self._decode_rows(step) + self._prefill(step)

    def _decode_rows(self, step: Step) -> list[Piece | Failed]:
        if not step.decode:
            return []
        logits_bv = self._runner.decode(
            [row.slot for row in step.decode],
            [row.tokens[-1] for row in step.decode],
            [len(row.tokens) - 1 for row in step.decode],
        )
        return [self._advance(row, logits_bv[i]) for i, row in enumerate(step.decode)]

    def _prefill(self, step: Step) -> list[Piece | Failed]:
        chunk = step.prefill
        if chunk is None:
            return []
        tokens = chunk.row.tokens[chunk.start : chunk.end]
        logits_v = self._runner.prefill(chunk.row.slot, tokens, chunk.start)
        return [self._advance(chunk.row, logits_v)] if chunk.is_last else []

    def _advance(self, row: Row, logits_v: Tensor) -> Piece | Failed:
        """Add the next token to a request, and end it if that was its last one."""
        generation = self._open[row.id]
        if not bool(logits_v.isfinite().all()):
            self.cancel(row.id)
            return Failed(id=row.id, why="the model made numbers that are not finite")
        token = choose(logits_v, generation.sampling, position=len(row.tokens))
        row.tokens.append(token)
        is_end = token in self._end_tokens
        text = "" if is_end else generation.stops.add(generation.text.add(token))
        end = self._end(generation, is_end)
        if end is not None:
            text += generation.stops.add(generation.text.flush()) + generation.stops.flush()
            end = "stop" if generation.stops.is_stopped else end
            self.cancel(row.id)
        return Piece(id=row.id, text=text, tokens=(token,), end=end)

    def _end(self, generation: Generation, is_end: bool) -> Literal["stop", "length"] | None:
        if is_end or generation.stops.is_stopped:
            return "stop"
        is_full = len(generation.row.tokens) >= self._context
        return "length" if is_full or generation.made >= generation.ask.tokens_max else None
