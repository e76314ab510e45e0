"""Leave without dropping a request: tell, wait until all have heard, refuse new, finish, stop."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from runtime.limits import DRAIN_NOTICE_S
from runtime.serve.states import Event, Life, State

log = logging.getLogger(__name__)


class Drains(Protocol):
    """A replica or a gateway, as far as leaving goes."""

    life: Life
    is_refusing: bool

    async def idle(self) -> None:
        """Return once no request is open."""


async def drain(
    server: Drains, say: Callable[[], None], drain_s: float, notice_s: float = DRAIN_NOTICE_S
) -> None:
    """Walk from any state to stopped. What is open after `drain_s` is left for the caller to cut.

    The notice is served in full even if nothing is open: balancers must see `/readyz` fail, which
    takes them up to `notice_s`, before a new request may be refused.
    """
    server.life.take(Event.LEAVE)
    say()
    if server.life.state is State.STOPPED:
        server.is_refusing = True
        return
    await asyncio.sleep(notice_s)
    server.is_refusing = True
    try:
        async with asyncio.timeout(drain_s):
            await server.idle()
    except TimeoutError:
        log.warning("requests are still open after %.0f s", drain_s)
    server.life.take(Event.DRAINED)
