"""What the endpoints of a replica ask for: the version that answers, admission, a generation.

Lives in one event loop. Knows nothing of HTTP but the errors that its answers become.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from runtime.serve.admission import Load, Rejected, Room, admit
from runtime.serve.api.errors import invalid, leaving, queue_full, unavailable, unknown_model
from runtime.serve.engine.child import Engine
from runtime.serve.engine.protocol import Piece, Start
from runtime.serve.metrics import ReplicaMetrics
from runtime.serve.states import Event, Life, State

FINGERPRINT_CHARS = 16
RATE_REQUESTS = 32  # the rate of work is measured over so many ended requests
LONG_PROMPT_CHARS = 16_384  # longer ones are tokenised in a thread


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """A model version with the engine that serves it."""

    digest: str
    created: int  # Unix time of publication
    context: int  # longest sequence, tokens
    tokenizer: Tokenizer
    chat_template: str | None  # None: the plain fallback
    engine: Engine

    @property
    def fingerprint(self) -> str:
        """Which version made an answer, for people and tests."""
        return self.digest[:FINGERPRINT_CHARS]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """One request, independent of the endpoint it came by. None leaves the choice to us."""

    prompt: str | tuple[int, ...]
    tokens_max: int | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    stop: tuple[str, ...]


class Generation:
    """An admitted request. `close` must be called, whether it was read to its end or not."""

    def __init__(self, service: "Service", version: Version, start: Start, created: int) -> None:
        self.id = start.id
        self.version = version
        self.created = created
        self.prompt_tokens = len(start.prompt)
        self.completion_tokens = 0
        self.promised_tokens = len(start.prompt) + start.tokens_max
        self._service = service
        self._pieces = version.engine.generate(start)

    @property
    def fingerprint(self) -> str:
        """Of the version that answers."""
        return self.version.fingerprint

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """The pieces; raises Unavailable if the engine is lost."""
        begun = self._service.clock()
        metrics = self._service.metrics
        try:
            async for piece in self._pieces:
                if not self.completion_tokens:
                    metrics.first_token_s.observe(self._service.clock() - begun)
                self.completion_tokens += len(piece.tokens)
                metrics.generation_tokens.inc(len(piece.tokens))
                if piece.end is not None:
                    metrics.request_s.observe(self._service.clock() - begun)
                    metrics.success(piece.end)
                yield piece
        finally:
            await self._pieces.aclose()

    async def close(self) -> None:
        """Give the room back; idempotent."""
        self._service.closed(self)


class Service:
    """One replica: what it is, what it holds, and who is being answered."""

    def __init__(
        self,
        *,
        model_name: str,
        tokens_max: int,
        slots: int,
        queue: int,
        clock: Callable[[], float],
        unix_time: Callable[[], float],
        new_seed: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        self.model_name = model_name
        self.tokens_max = tokens_max
        self.slots, self.queue = slots, queue
        self.clock = clock
        self.life = Life()
        self.why = ""  # of a state that needs one
        self.version: Version | None = None
        self.is_refusing = False
        self.metrics = ReplicaMetrics(
            model_name,
            running=lambda: min(len(self._open), slots),
            waiting=lambda: max(0, len(self._open) - slots),
        )
        self._unix_time = unix_time
        self._new_seed = new_seed
        self._new_id = new_id
        self._some_closed = asyncio.Event()
        self._open: set[Generation] = set()
        self._ended: deque[tuple[float, int]] = deque(maxlen=RATE_REQUESTS)

    @property
    def is_ready(self) -> bool:
        """Whether new requests should come here."""
        return self.life.state is State.READY

    @property
    def open_requests(self) -> int:
        """Admitted and not yet closed."""
        return len(self._open)

    def proved(self, version: Version) -> None:
        """Answer new requests with this version from now on."""
        self.version = version
        self.why = ""
        if self.life.may(Event.PROVED):
            self.life.take(Event.PROVED)

    def lost(self, engine: Engine, why: str) -> None:
        """An engine died; it matters if it was the one that answers."""
        if self.version is not None and self.version.engine is engine:
            self.version = None
            self.why = why
            if self.life.may(Event.LOST):
                self.life.take(Event.LOST)

    def served(self, model: str) -> Version:
        """The version behind a model's name; raises ApiError if there is none."""
        if model != self.model_name:
            raise unknown_model(model, self.model_name)
        if self.is_refusing:
            raise leaving()
        if self.version is None:
            raise unavailable(self.why or "no model is loaded yet", retry_after_s=2)
        return self.version

    async def open(self, version: Version, ask: Ask) -> Generation:
        """Check, admit and queue a request; raises ApiError."""
        tokens_max = self._checked_tokens_max(ask.tokens_max)
        prompt = await _encode(version.tokenizer, ask.prompt)
        if len(prompt) >= version.context:
            raise invalid(
                f"prompt: found {len(prompt)} tokens; allowed fewer than {version.context}, "
                "the longest sequence of this model",
                param="prompt",
                code="context_length_exceeded",
            )
        if max(prompt) >= version.tokenizer.get_vocab_size() or min(prompt) < 0:
            raise invalid("prompt: found a token that the model does not have", param="prompt")
        start = Start(
            id=self._new_id(),
            prompt=tuple(prompt),
            tokens_max=min(tokens_max, version.context - len(prompt)),
            temperature=1.0 if ask.temperature is None else ask.temperature,
            top_p=1.0 if ask.top_p is None else ask.top_p,
            seed=self._new_seed() if ask.seed is None else ask.seed,
            stop=ask.stop,
        )
        self._admit(version, len(start.prompt) + start.tokens_max)
        generation = Generation(self, version, start, int(self._unix_time()))
        self._open.add(generation)
        self.metrics.prompt_tokens.inc(len(prompt))
        return generation

    def closed(self, generation: Generation) -> None:
        """Take back what a generation held."""
        if generation in self._open:
            self._open.remove(generation)
            self._ended.append((self.clock(), generation.promised_tokens))
            self._some_closed.set()
            self._some_closed = asyncio.Event()

    async def idle(self, version: Version | None = None) -> None:
        """Return once nothing is open, on one version or at all."""
        while any(version in (None, generation.version) for generation in self._open):
            await self._some_closed.wait()

    def _checked_tokens_max(self, asked: int | None) -> int:
        if asked is not None and asked > self.tokens_max:
            raise invalid(
                f"max_tokens: found {asked}; allowed 1 to {self.tokens_max}", param="max_tokens"
            )
        return self.tokens_max if asked is None else asked

    def _admit(self, version: Version, tokens: int) -> None:
        room = Room(
            slots=self.slots,
            queue=self.queue,
            tokens=(self.slots + self.queue) * version.context,
        )
        load = Load(
            requests=len(self._open),
            tokens=sum(generation.promised_tokens for generation in self._open),
            tokens_per_s=self._rate(),
        )
        decision = admit(room, load, tokens)
        if isinstance(decision, Rejected):
            self.metrics.rejections.inc()
            raise queue_full(decision.why, decision.retry_after_s)

    def _rate(self) -> float:
        """Promised tokens worked off per second, lately."""
        if not self._ended:
            return 0.0
        span_s = self.clock() - self._ended[0][0]
        return sum(tokens for _, tokens in self._ended) / span_s if span_s > 0 else 0.0


async def _encode(tokenizer: Tokenizer, prompt: str | tuple[int, ...]) -> Sequence[int]:
    """Tokens of a prompt; an empty text starts from token 0, which stands between documents."""
    if not isinstance(prompt, str):
        return prompt
    if len(prompt) < LONG_PROMPT_CHARS:
        return tokenizer.encode(prompt).ids or [0]
    return (await asyncio.to_thread(tokenizer.encode, prompt)).ids or [0]
