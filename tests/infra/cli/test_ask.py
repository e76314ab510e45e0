"""Asking the endpoint: a server that speaks as ours does, well and badly."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from infra.cli.ask import ASK_AGAIN_S, ASK_S, Question, ask, ask_in_time
from runtime.errors import Refused, Unavailable
from runtime.serve.api.bodies import Completion, CompletionChoice, ModelCard, ModelList, Usage
from runtime.serve.api.errors import ApiError, unavailable, wrong_key
from tests.infra.cli.conftest import ScriptedClock

KEY = "a key for tests"
PIECES = (
    "    with open",
    "(path) as file:\n",
    "é€",
    "\x85 \u2028 \u2029",
)  # no line ends of a stream
QUESTION = Question(prompt="def read_lines(path):\n", max_tokens=8, temperature=0.0, seed=7)


class Endpoint:
    """What the server shall do, and what it was asked."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, object]] = []
        self.error_at_once: ApiError | None = None
        self.end: bytes = b"data: [DONE]\n\n"
        self.has_model = True
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


def handler(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    """Answers for an endpoint."""

    class Handler(BaseHTTPRequestHandler):
        """GET /v1/models and POST /v1/completions."""

        def do_GET(self) -> None:
            """The models."""
            card = ModelCard(id="atoll-code", created=1, root="d", max_model_len=512)
            models = ModelList(data=(card,) if endpoint.has_model else ())
            self._send(200, models.model_dump_json().encode(), "application/json")

        def do_POST(self) -> None:
            """A stream, or the error that was asked for."""
            length = int(self.headers["Content-Length"])
            endpoint.bodies.append(json.loads(self.rfile.read(length)))
            if self.headers["Authorization"] != f"Bearer {KEY}":
                endpoint.error_at_once = wrong_key()
            if endpoint.error_at_once is not None:
                error = endpoint.error_at_once
                self._send(error.status, error.body.model_dump_json().encode(), "application/json")
                return
            events = [piece(text) for text in PIECES]
            events.append(piece("", finish_reason="length"))
            events.append(usage())
            body = b": ping\n\n" + b"".join(events) + endpoint.end
            self._send(200, body, "text/event-stream")

        def log_message(self, *_: object) -> None:
            """Silent."""

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def piece(text: str, finish_reason: str | None = None) -> bytes:
    """One event of a stream, as the API makes it."""
    choice = CompletionChoice.model_validate({"text": text, "finish_reason": finish_reason})
    return event(choice)


def usage() -> bytes:
    """The event with the tokens."""
    counted = Usage(prompt_tokens=7, completion_tokens=8, total_tokens=15)
    return event(usage=counted)


def event(*choices: CompletionChoice, usage: Usage | None = None) -> bytes:
    """As sent."""
    body = Completion(
        id="c",
        created=1,
        model="atoll-code",
        system_fingerprint="f",
        choices=choices,
        usage=usage,
    )
    return b"data: " + body.model_dump_json().encode() + b"\n\n"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A server on this machine."""
    found = Endpoint()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_an_answer_streams_piece_by_piece(endpoint: Endpoint) -> None:
    shown: list[str] = []

    answer = ask(endpoint.url, KEY, QUESTION, shown.append)

    assert [text for text in shown if text] == list(PIECES)
    assert answer.text == "".join(PIECES)
    assert (answer.model, answer.finish_reason, answer.completion_tokens) == (
        "atoll-code",
        "length",
        8,
    )
    (body,) = endpoint.bodies
    assert (body["temperature"], body["seed"], body["max_tokens"]) == (0.0, 7, 8)


def test_what_was_not_chosen_is_left_to_the_server(endpoint: Endpoint) -> None:
    ask(endpoint.url, KEY, Question(prompt="x", max_tokens=1), lambda _: None)

    assert {"temperature", "seed"}.isdisjoint(endpoint.bodies[0])


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")

    assert ask(endpoint.url, KEY, QUESTION, lambda _: None).text


def test_a_wrong_key_is_the_servers_own_sentence(endpoint: Endpoint) -> None:
    with pytest.raises(Refused, match="answered 401: Incorrect API key"):
        ask(endpoint.url, "wrong", QUESTION, lambda _: None)


def test_a_busy_service_is_asked_again_until_it_answers(
    endpoint: Endpoint, scripted: ScriptedClock
) -> None:
    endpoint.error_at_once = unavailable("no replica is ready")

    def recover() -> None:
        endpoint.error_at_once = None

    scripted.scenes = [lambda: None, recover]
    shown: list[str] = []
    answer = ask_in_time(endpoint.url, KEY, QUESTION, shown.append, scripted.clock)

    assert answer.text == "".join(shown) == "".join(PIECES)
    assert len(endpoint.bodies) == 3


def test_a_service_that_stays_busy_is_given_up(endpoint: Endpoint, scripted: ScriptedClock) -> None:
    endpoint.error_at_once = unavailable("no replica is ready")

    with pytest.raises(Unavailable, match="no replica is ready"):
        ask_in_time(endpoint.url, KEY, QUESTION, lambda _: None, scripted.clock)

    assert len(endpoint.bodies) == 1 + ASK_S / ASK_AGAIN_S


def test_an_answer_that_has_begun_is_not_begun_again(
    endpoint: Endpoint, scripted: ScriptedClock
) -> None:
    endpoint.end = unavailable("the replica was lost").event()

    with pytest.raises(Unavailable, match="the replica was lost"):
        ask_in_time(endpoint.url, KEY, QUESTION, lambda _: None, scripted.clock)

    assert len(endpoint.bodies) == 1


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (b"", "ended without its end"),
        (unavailable("the replica was lost").event(), "the replica was lost"),
        (b"data: {half\n\n", "no OpenAI event"),
    ],
)
def test_a_cut_stream_is_not_taken_for_an_answer(endpoint: Endpoint, end: bytes, said: str) -> None:
    endpoint.end = end

    with pytest.raises(Unavailable, match=said):
        ask(endpoint.url, KEY, QUESTION, lambda _: None)


def test_no_live_model_says_how_to_get_one(endpoint: Endpoint) -> None:
    endpoint.has_model = False

    with pytest.raises(Unavailable, match="atoll runs start"):
        ask(endpoint.url, KEY, QUESTION, lambda _: None)


def test_nobody_there_is_one_sentence() -> None:
    with pytest.raises(Unavailable, match="see: atoll status"):
        ask("http://127.0.0.1:9", KEY, QUESTION, lambda _: None)
