"""POST /v1/completions."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter, Request, Response

from runtime.errors import Unavailable
from runtime.serve.api.answers import collect, usage
from runtime.serve.api.bodies import Completion, CompletionChoice, CompletionRequest, FinishReason
from runtime.serve.api.errors import unavailable
from runtime.serve.api.events import DONE, EventStream, event
from runtime.serve.api.requests import parse, read_body, unless_gone
from runtime.serve.service import Ask, Generation, Service

TOKENS_DEFAULT = 16  # as OpenAI documents it


def routes(service: Service) -> APIRouter:
    """The endpoint of one replica."""
    router = APIRouter()

    @router.post("/v1/completions", response_model=Completion)
    async def completions(request: Request) -> Response:
        asked = parse(CompletionRequest, await read_body(request))
        version = service.served(asked.model)
        default = min(TOKENS_DEFAULT, service.tokens_max)
        ask = Ask(
            prompt=asked.one_prompt,
            tokens_max=default if asked.tokens_asked is None else asked.tokens_asked,
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
        answer = _piece(asked, generation, text, end)
        answer.usage = usage(generation)
        return Response(answer.model_dump_json(), media_type="application/json")

    return router


async def _events(asked: CompletionRequest, generation: Generation) -> AsyncGenerator[bytes, None]:
    hidden = None if asked.has_usage_event else {"usage"}
    try:
        async with aclosing(generation.pieces()) as pieces:
            async for piece in pieces:
                if piece.text or piece.end:
                    yield event(_piece(asked, generation, piece.text, piece.end), exclude=hidden)
    except Unavailable as fault:
        yield unavailable(str(fault)).event()
        return
    if asked.has_usage_event:
        last = _piece(asked, generation, "", None)
        last.choices, last.usage = (), usage(generation)
        yield event(last)
    yield DONE


def _piece(
    asked: CompletionRequest, generation: Generation, text: str, end: FinishReason | None
) -> Completion:
    return Completion(
        id=f"cmpl-{generation.id}",
        created=generation.created,
        model=asked.model,
        system_fingerprint=generation.fingerprint,
        choices=(CompletionChoice(text=text, finish_reason=end),),
    )
