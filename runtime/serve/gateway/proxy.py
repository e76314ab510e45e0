"""Carry requests to replicas: the one layer that tries again.

Whatever fails before the first event or byte has gone to the client is tried on another replica,
within a budget. After that a stream ends with an error event and without [DONE]; a generation is
a pure function of the request's seed, so asking twice does no harm.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import httpx

from runtime.limits import ATTEMPTS_MAX, REPLICA_WAIT_S
from runtime.serve.api.errors import ApiError, unavailable
from runtime.serve.api.events import DONE, ERROR_START, is_data, split_events
from runtime.serve.gateway.health import Replica, Replicas
from runtime.serve.gateway.limits import RetryBudget
from runtime.serve.gateway.metrics import GatewayMetrics
from runtime.serve.gateway.routing import choose

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# What a connection to a replica may end in: refused, reset, cut, or given up by health.py.
FAULTS = (httpx.TransportError, TimeoutError)


@dataclass(slots=True)
class Call:
    """One request to be carried, and what was tried so far."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    weight_tokens: int = 1
    attempts: int = 0
    tried: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Upstream:
    """An answer that has begun. `close` gives the replica's load back."""

    replica: Replica
    response: httpx.Response
    weight_tokens: int
    is_closed: bool = False

    async def close(self) -> None:
        """Idempotent."""
        if not self.is_closed:
            self.is_closed = True
            self.replica.outstanding_tokens -= self.weight_tokens
            await self.response.aclose()


class Cut(Exception):
    """A stream ended without its end, or began with an error."""


class Proxy:
    """Asks replicas on behalf of clients."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        replicas: Replicas,
        metrics: GatewayMetrics,
        draw: Callable[[int], int],
    ) -> None:
        self._client = client
        self._replicas = replicas
        self._metrics = metrics
        self._draw = draw
        self._budget = RetryBudget()

    async def open(self, call: Call) -> Upstream:
        """The first answer that is worth passing on; raises ApiError if nobody gives one."""
        if not call.attempts:
            self._budget.request()
        while True:
            replica = await self._pick(call)
            call.attempts += 1
            call.tried.add(replica.node)
            try:
                upstream = await self._send(call, replica)
            except FAULTS as fault:
                self._failed(replica, fault)
                if not self._may_retry(call):
                    raise unavailable("no replica answered") from None
                continue
            status = upstream.response.status_code
            if status == httpx.codes.SERVICE_UNAVAILABLE:
                self._replicas.failed(replica)
            elif status != httpx.codes.TOO_MANY_REQUESTS or not self._has_untried(call):
                return upstream
            if not self._may_retry(call):
                return upstream
            await upstream.close()

    async def whole(self, call: Call) -> httpx.Response:
        """An answer read to its end; a replica lost meanwhile is replaced by another."""
        while True:
            upstream = await self.open(call)
            try:
                await _guarded(upstream.replica, upstream.response.aread())
            except FAULTS as fault:
                self._failed(upstream.replica, fault)
                if not self._may_retry(call):
                    raise unavailable("the replica was lost while it answered") from None
            else:
                return upstream.response
            finally:
                await upstream.close()

    async def events(self, call: Call, upstream: Upstream) -> AsyncGenerator[bytes, None]:
        """The events of a stream that `open` has begun, and of those that replace it."""
        is_begun = False
        try:
            while True:
                try:
                    async for block in self._blocks(upstream):
                        if not is_begun and block.startswith(ERROR_START):
                            raise Cut("error before the first token")
                        is_begun = is_begun or is_data(block)
                        yield block
                    return
                except (*FAULTS, Cut) as fault:
                    self._failed(upstream.replica, fault)
                    if is_begun or not self._may_retry(call):
                        self._metrics.cut_streams.inc()
                        yield unavailable("the replica was lost while it answered").event()
                        return
                await upstream.close()
                upstream = await self.open(call)
                status = upstream.response.status_code
                if status != httpx.codes.OK:
                    yield unavailable(f"the next replica answered {status}").event()
                    return
        except ApiError as error:
            yield error.event()
        finally:
            await upstream.close()

    async def _blocks(self, upstream: Upstream) -> AsyncIterator[bytes]:
        """Whole events up to [DONE] or an error event; raises Cut if neither comes."""
        rest = b""
        chunks = upstream.response.aiter_raw()
        while True:
            chunk = await _guarded(upstream.replica, anext(chunks, b""))
            if not chunk:
                raise Cut("the stream ended without its end")
            blocks, rest = split_events(rest + chunk)
            for block in blocks:
                yield block
                if block == DONE or block.startswith(ERROR_START):
                    return

    async def _pick(self, call: Call) -> Replica:
        try:
            async with asyncio.timeout(REPLICA_WAIT_S):
                await self._replicas.wait_ready()
        except TimeoutError:
            raise unavailable("no replica is ready", retry_after_s=2) from None
        ready = self._replicas.ready(without=call.tried)
        return ready[choose([replica.outstanding_tokens for replica in ready], self._draw)]

    async def _send(self, call: Call, replica: Replica) -> Upstream:
        request = self._client.build_request(
            call.method, replica.url + call.path, content=call.body, headers=call.headers
        )
        replica.outstanding_tokens += call.weight_tokens
        try:
            response = await _guarded(replica, self._client.send(request, stream=True))
        except BaseException:
            replica.outstanding_tokens -= call.weight_tokens
            raise
        return Upstream(replica, response, call.weight_tokens)

    def _has_untried(self, call: Call) -> bool:
        return any(replica.node not in call.tried for replica in self._replicas.ready())

    def _may_retry(self, call: Call) -> bool:
        if call.attempts >= ATTEMPTS_MAX or not self._budget.take():
            return False
        self._metrics.retries.inc()
        return True

    def _failed(self, replica: Replica, fault: Exception) -> None:
        log.warning("replica %s: %s %s", replica.node, type(fault).__name__, fault)
        self._replicas.failed(replica)


async def _guarded(replica: Replica, answer: Awaitable[Result]) -> Result:
    """Await something of a replica; TimeoutError if the replica is given up meanwhile."""
    async with asyncio.timeout(None) as scope:
        replica.scopes.add(scope)
        try:
            return await answer
        finally:
            replica.scopes.discard(scope)
