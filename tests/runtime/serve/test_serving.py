"""The API as the official client sees it, through a gateway, to a real model in real processes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import openai
import pytest

if TYPE_CHECKING:
    from tests.runtime.serve.conftest import Service

MODEL = "tiny"
PROMPT = "def add(a, b):"
MESSAGES: list[openai.types.chat.ChatCompletionMessageParam] = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "def"},
]


def complete(client: openai.OpenAI, prompt: str = PROMPT, max_tokens: int = 24) -> str:
    """A greedy completion."""
    return (
        client.completions.create(model=MODEL, prompt=prompt, max_tokens=max_tokens, temperature=0)
        .choices[0]
        .text
    )


def post(service: Service, body: bytes, path: str = "/v1/completions") -> httpx.Response:
    """A request that the client library would not send."""
    headers = {"Authorization": "Bearer a key for tests", "Content-Type": "application/json"}
    return httpx.post(
        service.gateway.url + path, content=body, headers=headers, timeout=60, trust_env=False
    )


def test_the_model_is_listed_with_its_version(service: Service) -> None:
    listed = service.client.models.list().data
    retrieved = service.client.models.retrieve(MODEL)

    assert [model.id for model in listed] == [MODEL]
    assert retrieved.model_extra is not None
    assert retrieved.model_extra["root"] == service.digest


def test_a_completion_says_what_it_cost_and_which_version_made_it(service: Service) -> None:
    answer = service.client.completions.create(
        model=MODEL, prompt=PROMPT, max_tokens=7, temperature=0
    )

    assert answer.usage is not None
    assert answer.usage.completion_tokens == 7
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 7
    assert answer.choices[0].finish_reason == "length"
    assert answer.system_fingerprint is not None
    assert service.digest.startswith(answer.system_fingerprint)


def test_a_conversation_is_answered(service: Service) -> None:
    answer = service.client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_completion_tokens=9, temperature=0
    )

    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 9


@pytest.mark.parametrize("seed", [1, -5])
def test_a_streamed_completion_is_the_same_text(service: Service, seed: int) -> None:
    def ask(stream: bool) -> openai.Stream[openai.types.Completion] | openai.types.Completion:
        return service.client.completions.create(
            model=MODEL, prompt=PROMPT, max_tokens=40, seed=seed, top_p=0.9, stream=stream
        )

    whole, pieces = ask(stream=False), ask(stream=True)

    assert isinstance(whole, openai.types.Completion)
    assert isinstance(pieces, openai.Stream)
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text


def test_a_streamed_answer_is_the_same_text_and_ends_with_usage(service: Service) -> None:
    chat = service.client.chat.completions
    whole = chat.create(model=MODEL, messages=MESSAGES, max_tokens=30, temperature=0)

    pieces = list(
        chat.create(
            model=MODEL,
            messages=MESSAGES,
            max_tokens=30,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    choices = [piece.choices[0] for piece in pieces if piece.choices]
    assert "".join(c.delta.content or "" for c in choices) == whole.choices[0].message.content
    assert choices[0].delta.role == "assistant"
    assert choices[-1].finish_reason == "length"
    assert pieces[-1].choices == []
    assert pieces[-1].usage == whole.usage


def test_a_stream_is_not_buffered_and_ends_with_done(service: Service) -> None:
    body = {"model": MODEL, "prompt": PROMPT, "max_tokens": 5, "stream": True}

    answer = post(service, json.dumps(body).encode())

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    blocks = answer.text.split("\n\n")
    assert blocks.pop() == ""
    assert blocks.pop() == "data: [DONE]"
    assert all(json.loads(block.removeprefix("data: "))["choices"] for block in blocks)


def test_a_stop_string_across_tokens_ends_the_text_before_it(service: Service) -> None:
    text = complete(service.client, max_tokens=60)
    stop = text[10:22]

    answer = service.client.completions.create(
        model=MODEL, prompt=PROMPT, max_tokens=60, temperature=0, stop=["never there", stop]
    )

    assert answer.choices[0].text == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens < 60


def test_the_same_seed_gives_the_same_text_and_no_seed_another_one(service: Service) -> None:
    def sample(seed: int | None) -> str:
        answer = service.client.completions.create(
            model=MODEL, prompt=PROMPT, max_tokens=20, seed=seed, temperature=1.5
        )
        return answer.choices[0].text

    assert sample(3) == sample(3)
    assert sample(3) != sample(4)
    assert sample(None) != sample(None)


def test_a_text_does_not_depend_on_who_is_in_the_batch(service: Service) -> None:
    prompts = [PROMPT, "x", "for x in range(10):\n    print(x)\n" * 20, "return"] * 2
    alone = [complete(service.client, prompt, 40) for prompt in prompts[:4]]

    with ThreadPoolExecutor(len(prompts)) as pool:
        together = list(pool.map(lambda p: complete(service.client, p, 40), prompts))

    assert together == alone * 2


def test_max_tokens_is_capped_by_what_the_context_leaves(service: Service) -> None:
    prompt = [5] * 4090

    answer = service.client.completions.create(
        model=MODEL, prompt=prompt, max_tokens=100, temperature=0
    )

    assert answer.usage is not None
    assert answer.usage.total_tokens == 4096


def test_a_wrong_key_is_told_from_a_wrong_request(service: Service) -> None:
    client = service.rig.client(service.gateway, key="another key")

    with pytest.raises(openai.AuthenticationError) as raised:
        complete(client)

    assert raised.value.code == "invalid_api_key"


def test_an_unknown_model_is_a_404(service: Service) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        service.client.completions.create(model="gpt-4", prompt="x")

    assert raised.value.code == "model_not_found"


def test_an_unknown_path_and_method_have_openai_bodies(service: Service) -> None:
    unknown = post(service, b"{}", "/v1/files")

    assert unknown.status_code == 404
    assert unknown.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("max_tokens", [0, -1, 4001, 10**12])
def test_max_tokens_beyond_the_limit_is_refused(service: Service, max_tokens: int) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        complete(service.client, max_tokens=max_tokens)

    assert raised.value.param == "max_tokens"


def test_a_prompt_longer_than_the_context_is_refused(service: Service) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        service.client.completions.create(model=MODEL, prompt=[5] * 4096)

    assert raised.value.code == "context_length_exceeded"


def test_a_token_that_the_model_does_not_have_is_refused(service: Service) -> None:
    for token in (300, -1, 10**20):
        with pytest.raises(openai.BadRequestError):
            service.client.completions.create(model=MODEL, prompt=[1, token])


def test_broken_json_is_a_400(service: Service) -> None:
    for body in (b"{", b'{"model": "tiny", "prompt": "x"', b"\xff\xfe", b"[" * 100_000):
        answer = post(service, body)

        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_ten_megabytes_are_refused_and_the_next_request_is_answered(service: Service) -> None:
    body = json.dumps({"model": MODEL, "prompt": "x" * (10 << 20)}).encode()

    answer = post(service, body)

    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"
    assert complete(service.client)


def test_a_client_that_leaves_a_stream_frees_its_slot(service: Service) -> None:
    stream = service.client.completions.create(
        model=MODEL, prompt=PROMPT, max_tokens=4000, temperature=0, stream=True
    )
    next(iter(stream))
    before = service.replica.metric("vllm:num_requests_running")

    stream.close()

    assert before == 1
    service.rig.eventually(lambda: is_idle(service), "the slot is free")


def test_a_client_that_leaves_without_a_stream_frees_its_slot(service: Service) -> None:
    client = service.client.with_options(timeout=0.5)
    ended_before = service.replica.metric("vllm:e2e_request_latency_seconds_count")

    with pytest.raises(openai.APITimeoutError):
        complete(client, max_tokens=4000)

    service.rig.eventually(lambda: is_idle(service), "the slot is free")
    assert service.replica.metric("vllm:e2e_request_latency_seconds_count") == ended_before


def test_a_full_queue_says_when_to_come_again(service: Service) -> None:
    def open_stream() -> openai.Stream[openai.types.Completion]:
        return service.client.completions.create(
            model=MODEL, prompt=PROMPT, max_tokens=4000, temperature=0, stream=True
        )

    streams = [open_stream() for _ in range(8)]
    try:
        with pytest.raises(openai.RateLimitError) as raised:
            complete(service.client)
        waiting = service.replica.metric("vllm:num_requests_waiting")
    finally:
        for stream in streams:
            stream.close()

    assert int(raised.value.response.headers["retry-after"]) >= 1
    assert waiting == 4
    service.rig.eventually(lambda: is_idle(service), "all slots are free")
    assert complete(service.client)


def test_figures_have_the_names_that_dashboards_know(service: Service) -> None:
    complete(service.client)
    text = httpx.get(f"{service.replica.url}/metrics", trust_env=False).text

    for name in (
        "vllm:num_requests_running{",
        "vllm:num_requests_waiting{",
        "vllm:prompt_tokens_total{",
        "vllm:generation_tokens_total{",
        "vllm:time_to_first_token_seconds_bucket{",
        "vllm:e2e_request_latency_seconds_bucket{",
        'vllm:request_success_total{finished_reason="length"',
    ):
        assert name in text


def test_health_needs_no_key_and_logs_hold_no_prompt(service: Service) -> None:
    complete(service.client, prompt="a very secret prompt")

    for running in (service.replica, service.gateway):
        assert running.status("/livez") == 200
        assert running.status("/readyz") == 200
        log = running.log.read_text()
        assert "secret" not in log
        assert "a key for tests" not in log


def is_idle(service: Service) -> bool:
    """Whether nobody has a slot or waits for one."""
    return (
        service.replica.metric("vllm:num_requests_running") == 0
        and service.replica.metric("vllm:num_requests_waiting") == 0
        and service.gateway.metric("atoll_gateway_requests_open") == 0
    )
