"""A replica: waits for a live model, answers with it, follows newer versions, leaves politely."""

import asyncio
import secrets
import time

from runtime.errors import Refused
from runtime.node_spec import ServeSpec
from runtime.objects import open_store
from runtime.role import Node
from runtime.serve.api.app import build_app
from runtime.serve.drain import drain
from runtime.serve.listen import left, serving
from runtime.serve.rollover import NO_MODEL, Rollover
from runtime.serve.service import Service
from runtime.serve.states import Event

ID_BYTES = 12
SEED_BITS = 63


def run(node: Node) -> None:
    """Serve until told to leave. Raises Unavailable if the port is taken."""
    if node.spec.serve is None:
        raise Refused("node file: found no `serve`; a replica needs it")
    asyncio.run(_run(node, node.spec.serve))


async def _run(node: Node, spec: ServeSpec) -> None:
    service = Service(
        model_name=spec.model_name,
        tokens_max=spec.max_tokens,
        slots=spec.slots,
        queue=spec.queue,
        clock=time.monotonic,
        unix_time=time.time,
        new_seed=lambda: secrets.randbits(SEED_BITS),
        new_id=lambda: secrets.token_hex(ID_BYTES),
    )

    def say() -> None:
        node.heart.say(
            state=service.life.state.value,
            why=service.why,
            port=spec.port,
            model=service.version.digest if service.version else None,
        )

    async with serving(build_app(service), node.spec.address, spec.port):
        service.life.take(Event.LISTENING)
        service.why = NO_MODEL
        say()
        models = open_store(node.spec.stores.models)
        folder = node.folder / "models"
        rollover = Rollover(spec, service, node.control, models, folder, say, node.stderr)
        keeping = asyncio.create_task(rollover.keep())
        leaving = asyncio.create_task(left(node.leaving))
        try:
            await asyncio.wait([keeping, leaving], return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                keeping.result()
            await drain(service, say, spec.drain_s)
        finally:
            keeping.cancel()
            leaving.cancel()
            await rollover.close()
