"""The HTTP application of a gateway: who may ask, what is asked, and who is leaving."""

import asyncio
from collections.abc import Callable

import httpx
from fastapi import APIRouter, FastAPI, Request, Response

from runtime.limits import GATEWAY_OPEN_MAX
from runtime.node_spec import GatewaySpec
from runtime.serve.api import errors, health
from runtime.serve.api.bodies import (
    ChatCompletion,
    ChatRequest,
    Completion,
    CompletionRequest,
    Generate,
    ModelCard,
    ModelList,
)
from runtime.serve.api.errors import invalid, leaving, queue_full, wrong_key
from runtime.serve.api.events import EventStream
from runtime.serve.api.requests import parse, read_body, unless_gone
from runtime.serve.gateway.limits import is_key_accepted
from runtime.serve.gateway.metrics import GatewayMetrics
from runtime.serve.gateway.proxy import Call, Proxy
from runtime.serve.gateway.routing import weight_tokens
from runtime.serve.states import Life, State

PASSED_ON = ("content-type", "retry-after", "retry-after-ms")
REQUEST_ID = "X-Request-Id"
NO_REPLICA = "no replica is ready"


class Gateway:
    """Admits requests and has them carried. Lives in one event loop."""

    def __init__(
        self, spec: GatewaySpec, proxy: Proxy, metrics: GatewayMetrics, new_id: Callable[[], str]
    ) -> None:
        self.life = Life()
        self.is_refusing = False
        self.metrics = metrics
        self.requests_open = 0
        self._spec = spec
        self._proxy = proxy
        self._new_id = new_id
        self._none_open = asyncio.Event()
        self._none_open.set()

    @property
    def why(self) -> str:
        """What presence says beside the state."""
        return NO_REPLICA if self.life.state is State.WARMING else ""

    async def idle(self) -> None:
        """Return once no request is open."""
        await self._none_open.wait()

    async def carry(self, request: Request, kind: type[Generate] | None = None) -> Response:
        """Answer a request through a replica; raises ApiError. `kind` None means no body."""
        self._enter(request)
        try:
            response = await self._answer(request, kind)
        except BaseException:
            self._exit()
            raise
        if not isinstance(response, EventStream):  # which exits when it ends
            self._exit()
        self.metrics.answer(response.status_code)
        return response

    async def _answer(self, request: Request, kind: type[Generate] | None) -> Response:
        call = Call(
            method=request.method,
            path=request.url.path,
            headers={"Content-Type": "application/json", REQUEST_ID: self._new_id()},
        )
        if kind is None:
            return _passed_on(call, await self._proxy.whole(call))
        call.body = await read_body(request)
        asked = parse(kind, call.body)
        call.weight_tokens = self._weight_tokens(asked)
        if asked.stream:
            return await self._stream(request, call)
        return _passed_on(call, await unless_gone(request, self._proxy.whole(call)))

    async def _stream(self, request: Request, call: Call) -> Response:
        upstream = await unless_gone(request, self._proxy.open(call))
        if upstream.response.status_code != httpx.codes.OK:
            try:
                await upstream.response.aread()
            finally:
                await upstream.close()
            return _passed_on(call, upstream.response)

        async def close() -> None:
            await upstream.close()
            self._exit()

        headers = {REQUEST_ID: call.headers[REQUEST_ID]}
        return EventStream(self._proxy.events(call, upstream), close, headers)

    def _weight_tokens(self, asked: Generate) -> int:
        tokens_max = asked.tokens_asked
        if tokens_max is not None and tokens_max > self._spec.max_tokens:
            raise invalid(
                f"max_tokens: found {tokens_max}; allowed 1 to {self._spec.max_tokens}",
                param="max_tokens",
            )
        return weight_tokens(asked.prompt_chars, tokens_max or self._spec.max_tokens)

    def _enter(self, request: Request) -> None:
        key = request.headers.get("authorization")
        if not is_key_accepted(key, self._spec.api_key_sha256):
            self.metrics.wrong_keys.inc()
            raise wrong_key()
        if self.is_refusing:
            raise leaving()
        if self.requests_open >= GATEWAY_OPEN_MAX:
            raise queue_full(f"{GATEWAY_OPEN_MAX} are open in this gateway", 1)
        self.requests_open += 1
        self.metrics.requests_open.inc()
        self._none_open.clear()

    def _exit(self) -> None:
        self.requests_open -= 1
        self.metrics.requests_open.dec()
        if not self.requests_open:
            self._none_open.set()


def _passed_on(call: Call, answer: httpx.Response) -> Response:
    headers = {name: answer.headers[name] for name in PASSED_ON if name in answer.headers}
    headers[REQUEST_ID] = call.headers[REQUEST_ID]
    return Response(answer.content, answer.status_code, headers)


def build_app(gateway: Gateway) -> FastAPI:
    """All endpoints of a gateway."""
    app = FastAPI(title="Atoll gateway", docs_url=None, redoc_url=None)
    errors.install(app)
    router = APIRouter()

    @router.get("/v1/models", response_model=ModelList)
    @router.get("/v1/models/{model:path}", response_model=ModelCard)
    async def models(request: Request) -> Response:
        return await gateway.carry(request)

    @router.post("/v1/completions", response_model=Completion)
    async def completions(request: Request) -> Response:
        return await gateway.carry(request, CompletionRequest)

    @router.post("/v1/chat/completions", response_model=ChatCompletion)
    async def chat(request: Request) -> Response:
        return await gateway.carry(request, ChatRequest)

    app.include_router(router)
    app.include_router(
        health.routes(
            lambda: health.Health(state=gateway.life.state, why=gateway.why),
            lambda: gateway.life.state is State.READY,
            gateway.metrics.text,
        )
    )
    return app
