"""Who gets a slot, and what the next step computes.

Pure: no torch, no clock. Requests join and leave between steps. A step is one token for each
request that has its whole prompt in the cache, and one chunk of one prompt: a long prompt delays
the others by one chunk per step and no more, and prompts take turns, so that a short one does not
wait for the whole of a long one.
"""

from collections import deque
from dataclasses import dataclass, field

from runtime.errors import Refused

PREFILL_CHUNK_TOKENS = 128


@dataclass(slots=True, eq=False)
class Row:
    """One request in the engine."""

    id: str
    tokens: list[int]  # prompt, then what was made
    prompt_tokens: int
    slot: int = -1  # -1 while waiting
    cached: int = 0  # tokens whose keys and values are in the cache

    @property
    def is_prefilled(self) -> bool:
        """Whether only the newest token is missing from the cache."""
        return self.cached >= self.prompt_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Tokens `start` to `end` of a prompt."""

    row: Row
    start: int
    end: int

    @property
    def is_last(self) -> bool:
        """Whether the first new token follows from it."""
        return self.end == self.row.prompt_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What to compute now."""

    decode: tuple[Row, ...] = ()
    prefill: Chunk | None = None


@dataclass(slots=True)
class Scheduler:
    """Slots and the queue before them, first come, first served."""

    slots: int
    queue: int
    chunk_tokens: int = PREFILL_CHUNK_TOKENS
    _rows: dict[str, Row] = field(default_factory=dict)
    _waiting: deque[Row] = field(default_factory=deque)
    _prefilling: deque[Row] = field(default_factory=deque)
    _free: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._free = list(reversed(range(self.slots)))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def waiting(self) -> int:
        """Requests without a slot."""
        return len(self._waiting)

    @property
    def free_slots(self) -> int:
        """Slots without a request."""
        return len(self._free)

    def add(self, id: str, prompt: list[int]) -> Row:
        """Queue a request; raises Refused if there is no room or nothing to go on from."""
        if len(self._rows) >= self.slots + self.queue:
            raise Refused(f"engine: {self.slots} slots and a queue of {self.queue} are full")
        if not prompt or id in self._rows:
            raise Refused(f"engine: request {id} has an empty prompt or is there already")
        row = Row(id=id, tokens=list(prompt), prompt_tokens=len(prompt))
        self._rows[id] = row
        self._waiting.append(row)
        return row

    def remove(self, id: str) -> bool:
        """Forget a request, finished or not, and free its slot; False if it is not there."""
        row = self._rows.pop(id, None)
        if row is None:
            return False
        if row.slot < 0:
            self._waiting.remove(row)
        else:
            self._free.append(row.slot)
            if row in self._prefilling:
                self._prefilling.remove(row)
        return True

    def next_step(self) -> Step:
        """Give free slots away, then say what to compute; an empty step means there is nothing.

        The rows count as cached when this returns: the caller computes the step before it asks
        for another one.
        """
        while self._free and self._waiting:
            row = self._waiting.popleft()
            row.slot = self._free.pop()
            self._prefilling.append(row)
        decode = tuple(r for r in self._rows.values() if r.slot >= 0 and r.is_prefilled)
        for row in decode:
            row.cached = len(row.tokens)
        return Step(decode=decode, prefill=self._next_chunk())

    def _next_chunk(self) -> Chunk | None:
        if not self._prefilling:
            return None
        row = self._prefilling.popleft()
        chunk = Chunk(
            row=row,
            start=row.cached,
            end=min(row.cached + self.chunk_tokens, row.prompt_tokens),
        )
        row.cached = chunk.end
        if not chunk.is_last:
            self._prefilling.append(row)
        return chunk
