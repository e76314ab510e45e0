import json

import pytest

from runtime.serve.api.bodies import ChatRequest, CompletionRequest
from runtime.serve.api.errors import ApiError
from runtime.serve.api.requests import parse


def refusal(kind: type[CompletionRequest] | type[ChatRequest], **fields: object) -> ApiError:
    with pytest.raises(ApiError) as raised:
        parse(kind, json.dumps({"model": "m", **fields}).encode())
    return raised.value


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2},
        {"best_of": 3},
        {"echo": True},
        {"logprobs": 5},
        {"logit_bias": {"50256": -100}},
        {"presence_penalty": 0.5},
        {"temperature": 2.1},
        {"temperature": "1"},
        {"top_p": 0},
        {"seed": 2**63},
        {"stop": ""},
        {"stop": list("abcde")},
        {"max_tokens": 0},
        {"max_tokens": True},
        {"max_token": 5},
        {"stream_options": {"include_usage": True}},
        {"prompt": []},
        {"prompt": ["a", "b"]},
        {"prompt": [[1], [2]]},
        {"prompt": None},
    ],
)
def test_what_is_not_done_is_refused_and_not_ignored(fields: dict[str, object]) -> None:
    error = refusal(CompletionRequest, **({"prompt": "x"} | fields))

    assert error.status == 400
    assert next(iter(fields)) in error.body.error.message


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
        {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_object"}},
    ],
)
def test_a_conversation_holds_text_and_nothing_else(fields: dict[str, object]) -> None:
    body = {"messages": [{"role": "user", "content": "x"}]} | fields

    assert refusal(ChatRequest, **body).status == 400


def test_documented_fields_with_neutral_values_pass() -> None:
    body = {
        "model": "m",
        "prompt": "x",
        "n": 1,
        "best_of": 1,
        "echo": False,
        "logprobs": None,
        "logit_bias": {},
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "suffix": None,
        "user": "somebody",
        "temperature": 0,
        "stop": None,
    }

    assert parse(CompletionRequest, json.dumps(body).encode()).temperature == 0


@pytest.mark.parametrize("prompt", ["x", ["x"], [1, 2], [[1, 2]]])
def test_one_prompt_may_come_in_four_ways(prompt: object) -> None:
    body = json.dumps({"model": "m", "prompt": prompt}).encode()

    assert parse(CompletionRequest, body).one_prompt in ("x", (1, 2))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"prompt": "\\ud800"}'])
def test_broken_json_is_a_400(body: bytes) -> None:
    with pytest.raises(ApiError) as raised:
        parse(CompletionRequest, body)

    assert raised.value.status == 400


def test_an_error_repeats_no_value_of_the_body() -> None:
    error = refusal(CompletionRequest, prompt="x", stop={"secret": "a password"}, seed="my key")

    assert "password" not in error.body.model_dump_json()
    assert "my key" not in error.body.model_dump_json()


def test_max_completion_tokens_is_the_newer_name_of_max_tokens() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    body = {"model": "m", "messages": messages, "max_tokens": 5, "max_completion_tokens": 7}

    asked = parse(ChatRequest, json.dumps(body).encode())

    assert asked.tokens_asked == 7
    assert asked.messages[0].text == "hello"
