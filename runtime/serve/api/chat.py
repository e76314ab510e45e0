"""POST /v1/chat/completions."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from fastapi import APIRouter, Request, Response
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtime.errors import Unavailable
from runtime.serve.api.answers import collect, usage
from runtime.serve.api.bodies import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatMessage,
    ChatRequest,
    FinishReason,
    Message,
)
from runtime.serve.api.errors import invalid, unavailable
from runtime.serve.api.events import DONE, EventStream, event
from runtime.serve.api.requests import parse, read_body, unless_gone
from runtime.serve.service import Ask, Generation, Service

# A model that was not trained on conversations continues this as the plain text it is.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"
)


def routes(service: Service) -> APIRouter:
    """The endpoint of one replica."""
    router = APIRouter()

    @router.post("/v1/chat/completions", response_model=ChatCompletion)
    async def chat(request: Request) -> Response:
        asked = parse(ChatRequest, await read_body(request))
        version = service.served(asked.model)
        ask = Ask(
            prompt=render(version.chat_template or PLAIN_TEMPLATE, asked.messages),
            tokens_max=asked.tokens_asked,
            temperature=asked.temperature,
            top_p=asked.top_p,
            seed=asked.seed,
            stop=asked.stops,
        )
        generation = await service.open(version, ask)
        if asked.stream:
            return EventStream(_events(asked, generation), generation.close)
        try:
            text, end = await unless_gone(request, collect(generation))
        finally:
            await generation.close()
        answer = _answer(asked, generation, text, end)
        return Response(answer.model_dump_json(), media_type="application/json")

    return router


def render(template: str, messages: Sequence[Message]) -> str:
    """The conversation as the text that the model continues.

    A template comes with a model, from anywhere: it runs in a sandbox that changes nothing.
    """
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _refuse
    turns = [{"role": message.role, "content": message.text} for message in messages]
    try:
        return environment.from_string(template).render(
            messages=turns, add_generation_prompt=True, bos_token="", eos_token=""
        )
    except TemplateError as fault:
        raise invalid(f"messages: the model's chat template says: {fault}", "messages") from None


def _refuse(why: str) -> None:
    raise TemplateError(why)


def _answer(
    asked: ChatRequest, generation: Generation, text: str, end: FinishReason
) -> ChatCompletion:
    return ChatCompletion(
        id=f"chatcmpl-{generation.id}",
        created=generation.created,
        model=asked.model,
        system_fingerprint=generation.fingerprint,
        choices=(ChatChoice(message=ChatMessage(content=text), finish_reason=end),),
        usage=usage(generation),
    )


async def _events(asked: ChatRequest, generation: Generation) -> AsyncGenerator[bytes, None]:
    hidden = None if asked.has_usage_event else {"usage"}
    is_first = True
    try:
        async with aclosing(generation.pieces()) as pieces:
            async for piece in pieces:
                # The role goes out with the first token: until then another replica may take over.
                if is_first:
                    opening = ChatDelta(role="assistant", content="")
                    yield event(_chunk(asked, generation, opening), exclude=hidden)
                    is_first = False
                if piece.text:
                    delta = ChatDelta(content=piece.text)
                    yield event(_chunk(asked, generation, delta), exclude=hidden)
                if piece.end:
                    last = _chunk(asked, generation, ChatDelta(), piece.end)
                    yield event(last, exclude=hidden)
    except Unavailable as fault:
        yield unavailable(str(fault)).event()
        return
    if asked.has_usage_event:
        closing = _chunk(asked, generation, ChatDelta())
        closing.choices, closing.usage = (), usage(generation)
        yield event(closing)
    yield DONE


def _chunk(
    asked: ChatRequest,
    generation: Generation,
    delta: ChatDelta,
    end: FinishReason | None = None,
) -> ChatChunk:
    return ChatChunk(
        id=f"chatcmpl-{generation.id}",
        created=generation.created,
        model=asked.model,
        system_fingerprint=generation.fingerprint,
        choices=(ChatChunkChoice(delta=delta, finish_reason=end),),
    )
