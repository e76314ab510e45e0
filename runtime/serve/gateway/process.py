"""A gateway: finds replicas, takes requests, leaves politely."""

import asyncio
import random
import secrets
import time

import httpx

from runtime.errors import Refused
from runtime.limits import CONNECT_S, UPSTREAM_IDLE_S
from runtime.node_spec import GatewaySpec
from runtime.role import Node
from runtime.serve.drain import drain
from runtime.serve.gateway.app import Gateway, build_app
from runtime.serve.gateway.health import Replicas
from runtime.serve.gateway.metrics import GatewayMetrics
from runtime.serve.gateway.proxy import Proxy
from runtime.serve.gateway.watch import keep_listing, keep_probing
from runtime.serve.listen import left, serving
from runtime.serve.states import Event

ID_BYTES = 16

# Reads have no deadline of their own: health.py ends them when the replica is silent everywhere.
TIMEOUT = httpx.Timeout(None, connect=CONNECT_S)
POOL = httpx.Limits(
    max_connections=None, max_keepalive_connections=None, keepalive_expiry=UPSTREAM_IDLE_S
)


def run(node: Node) -> None:
    """Serve until told to leave. Raises Unavailable if the port is taken."""
    if node.spec.gateway is None:
        raise Refused("node file: found no `gateway`; a gateway needs it")
    asyncio.run(_run(node, node.spec.gateway))


async def _run(node: Node, spec: GatewaySpec) -> None:
    # trust_env=False: a proxy of the environment has no business between gateway and replica.
    async with httpx.AsyncClient(timeout=TIMEOUT, limits=POOL, trust_env=False) as client:
        replicas = Replicas(time.monotonic)
        metrics = GatewayMetrics(lambda: len(replicas.ready()))
        proxy = Proxy(client, replicas, metrics, random.SystemRandom().randrange)
        gateway = Gateway(spec, proxy, metrics, lambda: secrets.token_hex(ID_BYTES))
        async with serving(build_app(gateway), node.spec.address, spec.port):
            await _serve(node, spec, client, replicas, gateway)


async def _serve(
    node: Node,
    spec: GatewaySpec,
    client: httpx.AsyncClient,
    replicas: Replicas,
    gateway: Gateway,
) -> None:
    """Watch replicas until told to leave, then drain."""

    def say() -> None:
        node.heart.say(state=gateway.life.state.value, why=gateway.why, port=spec.port)

    def follow() -> None:
        event = Event.PROVED if replicas.ready() else Event.LOST
        if gateway.life.may(event):
            gateway.life.take(event)
            say()

    gateway.life.take(Event.LISTENING)
    say()
    replicas.on_change = follow
    tasks = [
        asyncio.create_task(keep_listing(node.control, replicas, spec.replicas)),
        asyncio.create_task(keep_probing(client, replicas)),
        asyncio.create_task(left(node.leaving)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
        await drain(gateway, say, spec.drain_s, spec.notice_s)
    finally:
        for task in tasks:
            task.cancel()
