"""The two loops that keep `Replicas` true: presence is listed, `/readyz` is asked."""

import asyncio
import contextlib
import logging

import httpx

from runtime.coordination.log import read_presence
from runtime.errors import Unavailable
from runtime.limits import LIST_BUSY_S, LIST_IDLE_S, READY_CHECK_S
from runtime.objects import Store
from runtime.serve.gateway.health import Replica, Replicas

log = logging.getLogger(__name__)


async def keep_listing(control: Store, replicas: Replicas, expected: int) -> None:
    """List presence: often while replicas are missing, seldom after, at once after a fault."""
    while True:
        replicas.list_now.clear()
        try:
            presences = await asyncio.to_thread(lambda: [p for p, _ in read_presence(control)])
            replicas.listed(presences)
        except Unavailable as fault:
            log.warning("replicas not listed: %s", fault)
        # Faults come in bursts: one listing answers them all, so there is a pause before the next.
        await asyncio.sleep(LIST_BUSY_S)
        if replicas.answering >= expected:
            await _either(replicas.list_now, LIST_IDLE_S - LIST_BUSY_S)


async def keep_probing(client: httpx.AsyncClient, replicas: Replicas) -> None:
    """Ask every known replica in turn of the clock, and at once when one is new or had a fault."""
    while True:
        replicas.probe_now.clear()
        await asyncio.gather(*(_probe(client, replicas, replica) for replica in replicas.known))
        await _either(replicas.probe_now, READY_CHECK_S)


async def _probe(client: httpx.AsyncClient, replicas: Replicas, replica: Replica) -> None:
    try:
        answer = await client.get(f"{replica.url}/readyz", timeout=READY_CHECK_S)
    except httpx.HTTPError:
        replicas.missed(replica)
    else:
        replicas.answered(replica, is_ready=answer.status_code == httpx.codes.OK)


async def _either(event: asyncio.Event, timeout_s: float) -> None:
    """Return when the event is set or the time is over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
