"""Ask the endpoint a question as any OpenAI client would, and show the answer as it comes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from infra.cli.clock import Clock
from infra.cli.shapes import AnswerShape
from runtime.errors import Refused, Unavailable

CONNECT_S = 5.0
SILENT_S = 60.0  # a server sends pings more often than this
EVENTS_MAX = 1_000_000
ASK_S = 30.0  # a gateway needs a moment to see that a replica is ready
ASK_AGAIN_S = 0.5


class Busy(Unavailable):
    """The service is there, but can't answer now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked, and how the answer is drawn."""

    prompt: str
    max_tokens: int
    temperature: float | None = None  # None: the server's default
    seed: int | None = None


class _Choice(BaseModel):
    model_config = ConfigDict(extra="ignore")

    text: str = ""
    finish_reason: str | None = None


class _Usage(BaseModel):
    model_config = ConfigDict(extra="ignore")

    completion_tokens: int


class _Error(BaseModel):
    model_config = ConfigDict(extra="ignore")

    message: str


class _ErrorBody(BaseModel):
    model_config = ConfigDict(extra="ignore")

    error: _Error


class _Event(BaseModel):
    model_config = ConfigDict(extra="ignore")

    error: _Error | None = None
    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")

    id: str


class _Models(BaseModel):
    model_config = ConfigDict(extra="ignore")

    data: tuple[_Model, ...]


def ask(
    endpoint_url: str, api_key: str, question: Question, show: Callable[[str], None]
) -> AnswerShape:
    """Stream one completion; `show` gets each piece of text.

    Raises Unavailable where the service does not answer (Busy where it can't now), Refused where
    it says no.
    """
    with _client(endpoint_url, api_key) as client:
        model = _model_name(client)
        body: dict[str, object] = {
            "model": model,
            "prompt": question.prompt,
            "max_tokens": question.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if question.temperature is not None:
            body["temperature"] = question.temperature
        if question.seed is not None:
            body["seed"] = question.seed
        texts: list[str] = []
        finish_reason, tokens = None, None
        with client.stream("POST", "/v1/completions", json=body) as response:
            _check(response)
            for event in _events(_lines(response.iter_bytes())):
                for choice in event.choices:
                    texts.append(choice.text)
                    show(choice.text)
                    finish_reason = choice.finish_reason or finish_reason
                tokens = event.usage.completion_tokens if event.usage else tokens
    return AnswerShape(
        model=model,
        prompt=question.prompt,
        text="".join(texts),
        finish_reason=finish_reason,
        completion_tokens=tokens,
    )


def ask_in_time(
    endpoint_url: str,
    api_key: str,
    question: Question,
    show: Callable[[str], None],
    clock: Clock,
) -> AnswerShape:
    """`ask`, and again for ASK_S while the service is busy and has not begun to answer."""
    started_s, is_begun = clock.seconds(), False

    def begun(piece: str) -> None:
        nonlocal is_begun
        is_begun = True
        show(piece)

    while True:
        try:
            return ask(endpoint_url, api_key, question, begun)
        except Busy:
            if is_begun or clock.seconds() - started_s >= ASK_S:
                raise
            clock.wait(ASK_AGAIN_S)


@contextmanager
def _client(endpoint_url: str, api_key: str) -> Iterator[httpx.Client]:
    """Faults of the way there become one sentence."""
    try:
        with httpx.Client(
            base_url=endpoint_url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(SILENT_S, connect=CONNECT_S),
            trust_env=not _is_this_machine(endpoint_url),
        ) as client:
            yield client
    except httpx.TimeoutException:
        raise Unavailable(f"{endpoint_url}: no answer in time; see: atoll status") from None
    except httpx.TransportError as fault:
        raise Unavailable(f"{endpoint_url}: {fault}; see: atoll status") from fault


def _is_this_machine(endpoint_url: str) -> bool:
    """A proxy of the environment has no way to an address of this machine."""
    try:
        address = ip_address(urlsplit(endpoint_url).hostname or "")
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _model_name(client: httpx.Client) -> str:
    response = client.get("/v1/models")
    _check(response)
    models = _Models.model_validate_json(response.content).data
    if not models:
        raise Unavailable(f"{client.base_url}: no model is live yet; train one: atoll runs start")
    return models[0].id


def _check(response: httpx.Response) -> None:
    """Raise the server's own sentence."""
    if response.is_success:
        return
    response.read()
    message = _message(response.content) or response.reason_phrase
    sentence = f"{response.request.url} answered {response.status_code}: {message}"
    if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR or response.status_code == 429:
        raise Busy(sentence)
    raise Refused(sentence)


def _message(body: bytes) -> str:
    """The `error.message` of an OpenAI error, or the text of anything else."""
    try:
        return _ErrorBody.model_validate_json(body).error.message
    except ValidationError:
        return body.decode(errors="replace").strip()[:200]


def _lines(pieces: Iterator[bytes]) -> Iterator[str]:
    """Lines as event streams end them. httpx's own end at what Unicode calls a line end, too, which
    may stand in the midst of a JSON text."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace").removesuffix("\r")


def _events(lines: Iterator[str]) -> Iterator[_Event]:
    """The data of a stream up to its [DONE]; raises Unavailable if it is cut."""
    for _, line in zip(range(EVENTS_MAX), lines, strict=False):
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        try:
            event = _Event.model_validate_json(data)
        except ValidationError as fault:
            raise Unavailable(f"the endpoint sent what is no OpenAI event: {data[:80]}") from fault
        if event.error is not None:
            raise Busy(f"the answer was cut: {event.error.message}")
        yield event
    raise Unavailable("the answer was cut: the stream ended without its end")
