"""Bodies of requests and answers, as OpenAI documents them.

Documented fields are accepted; a value that asks for something we don't do is refused with a clear
400 instead of being ignored, and so is an unknown field: a misspelt `max_token` must not pass.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from runtime.serve.engine.protocol import SEED_MAX, SEED_MIN

STOPS_MAX = 4
STOP_CHARS_MAX = 256

StopString = Annotated[str, Field(min_length=1, max_length=STOP_CHARS_MAX)]

# Field → values that ask for nothing beyond what we do.
NEUTRAL: dict[str, tuple[object, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "echo": (None, False),
    "suffix": (None, ""),
    "logprobs": (None, False),
    "top_logprobs": (None,),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "response_format": (None, {"type": "text"}),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "web_search_options": (None,),
    "store": (None, False),
}


class Asked(BaseModel):
    """A request or a part of one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Asked):
    """What a stream carries beside text."""

    include_usage: bool = False
    include_obfuscation: bool | None = None  # padding against traffic analysis; we send none


class Generate(Asked):
    """What completions and chat have in common."""

    model: str
    temperature: float | None = Field(default=None, ge=0, le=2, description="0 is greedy.")
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=SEED_MIN, le=SEED_MAX)
    stop: StopString | tuple[StopString, ...] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)

    # Ignored: they concern billing, caching and abuse reports.
    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None

    # Accepted with the values in NEUTRAL.
    n: object = None
    logprobs: object = None
    logit_bias: object = None
    presence_penalty: object = None
    frequency_penalty: object = None
    store: object = None

    @model_validator(mode="after")
    def _only_what_we_do(self) -> Self:
        for name, allowed in NEUTRAL.items():
            if getattr(self, name, None) not in allowed:
                raise PydanticCustomError(
                    "unsupported",
                    "{name} is not supported here; leave it out",
                    {"name": name},
                )
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("unsupported", "stream_options needs stream: true")
        if len(self.stops) > STOPS_MAX:
            raise PydanticCustomError(
                "too_long", "stop: allowed {most} strings", {"most": STOPS_MAX}
            )
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else self.stop or ()

    @property
    def has_usage_event(self) -> bool:
        """Whether a stream ends with a usage event."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def tokens_asked(self) -> int | None:
        """The most new tokens that the request asks for, if it says."""
        return self.max_tokens

    @property
    def prompt_chars(self) -> int:
        """About how long the prompt is; for routing, not for limits."""
        raise NotImplementedError


class CompletionRequest(Generate):
    """POST /v1/completions."""

    prompt: str | tuple[int, ...] | tuple[str, ...] | tuple[tuple[int, ...], ...] = Field(
        description="A text or a list of tokens; a list of prompts may hold one."
    )
    best_of: object = None
    echo: object = None
    suffix: object = None

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        if isinstance(self.one_prompt, tuple) and not self.one_prompt:
            raise PydanticCustomError("too_short", "prompt: found an empty list")
        if not isinstance(self.prompt, str) and len(self.prompt) != 1 and not self._is_tokens:
            raise PydanticCustomError("unsupported", "prompt: allowed one per request")
        return self

    @property
    def _is_tokens(self) -> bool:
        return isinstance(self.prompt, tuple) and all(isinstance(t, int) for t in self.prompt)

    @property
    def one_prompt(self) -> str | tuple[int, ...]:
        """The prompt, taken out of a list of one."""
        if isinstance(self.prompt, str):
            return self.prompt
        first = self.prompt[0] if self.prompt else ()
        if isinstance(first, int):
            return tuple(t for t in self.prompt if isinstance(t, int))
        return first

    @property
    def prompt_chars(self) -> int:
        """Characters, or three for each token."""
        prompt = self.one_prompt
        return len(prompt) if isinstance(prompt, str) else 3 * len(prompt)


class TextPart(Asked):
    """The only kind of content part that a text model takes."""

    type: Literal["text"]
    text: str


class Message(Asked):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | tuple[TextPart, ...]
    name: str | None = None

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ChatRequest(Generate):
    """POST /v1/chat/completions."""

    messages: tuple[Message, ...] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    top_logprobs: object = None
    response_format: object = None
    tools: object = None
    tool_choice: object = None
    functions: object = None
    function_call: object = None
    modalities: object = None
    audio: object = None
    prediction: object = None
    web_search_options: object = None

    @property
    def tokens_asked(self) -> int | None:
        """`max_tokens` is the older name of the same."""
        asked = self.max_completion_tokens
        return asked if asked is not None else self.max_tokens

    @property
    def prompt_chars(self) -> int:
        """Characters of all messages."""
        return sum(len(message.text) for message in self.messages)


class Usage(BaseModel):
    """Tokens, as billed."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


FinishReason = Literal["stop", "length"]


class CompletionChoice(BaseModel):
    """The one text of a completion."""

    index: int = 0
    text: str
    logprobs: None = None
    finish_reason: FinishReason | None


class Completion(BaseModel):
    """A completion, or one piece of a streamed one."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[CompletionChoice, ...]
    usage: Usage | None = None


class ChatMessage(BaseModel):
    """The answer in a conversation."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """The one answer."""

    index: int = 0
    message: ChatMessage
    logprobs: None = None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChatChoice, ...]
    usage: Usage


class ChatDelta(BaseModel):
    """What a piece adds to the answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChunkChoice(BaseModel):
    """A piece of the one answer."""

    index: int = 0
    delta: ChatDelta
    logprobs: None = None
    finish_reason: FinishReason | None = None


class ChatChunk(BaseModel):
    """A piece of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChatChunkChoice, ...]
    usage: Usage | None = None


class ModelCard(BaseModel):
    """A served model. `root` is the digest of its version."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "atoll"
    root: str
    max_model_len: int


class ModelList(BaseModel):
    """GET /v1/models."""

    object: Literal["list"] = "list"
    data: tuple[ModelCard, ...]
