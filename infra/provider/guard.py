"""Guard: depends on everything, so it is deleted first, and refuses while a run is live.

Made last, it also writes what the stack says of itself into the control store.

`destroy` asks it only after the confirmation (the engine asks no provider when it
previews deletes).
"""

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from infra.checkout import markers, write_marker
from infra.clouds.description import StackDescription, write_description
from infra.clouds.standing import open_named
from infra.plan.limits import boot_s
from infra.provider.kind import Context, Inputs, Kind
from infra.provider.wire import Properties
from runtime.coordination.log import PoolLog, RunEntry, is_live, read_presence, store_now
from runtime.errors import Refused
from runtime.objects import Store


class GuardInputs(Inputs):
    """Which pools may be training."""

    home: str
    stack: str
    stack_id: str
    control_url: str
    pools: tuple[str, ...]
    region: str | None = Field(default=None, description="Of a rented cloud.")
    description: StackDescription | None = None  # None: as an older version made it

    @property
    def boot_s(self) -> float:
        """See `limits.boot_s`."""
        return boot_s(is_rented=self.region is not None)


class GuardKind(Kind[GuardInputs]):
    """`atoll:index:Guard`."""

    token: ClassVar[str] = "atoll:index:Guard"  # noqa: S105
    inputs = GuardInputs

    def create(self, inputs: GuardInputs, context: Context) -> tuple[str, Properties]:
        """All is there: let runs in, also after a `destroy` that stopped half-way."""
        for marker in markers(Path(inputs.home)):
            if marker.stack_id == inputs.stack_id:
                write_marker(marker.model_copy(update={"is_complete": True}))
        control = open_named(inputs.control_url, inputs.region)
        if inputs.description is not None:
            write_description(control, inputs.description)
        for pool in inputs.pools:
            PoolLog(control, pool, _me()).release(datetime.now(UTC))
        return f"{inputs.stack_id}/guard", {}

    def update(self, inputs: GuardInputs, computed: Properties, context: Context) -> Properties:
        """What it says may have changed."""
        if inputs.description is not None:
            write_description(open_named(inputs.control_url, inputs.region), inputs.description)
        return computed

    def read(self, inputs: GuardInputs, computed: Properties) -> bool:
        """A wish, not a thing: it is there."""
        return True

    def delete(self, inputs: GuardInputs, computed: Properties, context: Context) -> None:
        """Refuse while a run is live; else hold the pools, so that none starts meanwhile."""
        control = open_named(inputs.control_url, inputs.region)
        for pool in inputs.pools:
            hold_pool(control, pool, inputs.stack, f"destroy of {inputs.stack}", inputs.boot_s)
            context.say(f"pool {pool} is held: no run can start")


def hold_pool(control: Store, pool: str, stack: str, why: str, boot_s: float = 0.0) -> None:
    """Keep runs out of a pool. Closes a dead run; raises Refused while one is live."""
    log = PoolLog(control, pool, _me())
    refuse_live(control, log, stack, boot_s)
    run = log.state().open_run
    now = datetime.now(UTC)
    if run is not None:
        log.end(run.run, "failed", f"no member was alive; closed by {why}", now)
    if not log.hold(why, now):
        refuse_live(control, log, stack, boot_s)
        raise Refused(f"pool {pool}: a run was claimed just now; try again")


def refuse_live(control: Store, log: PoolLog, stack: str, boot_s: float = 0.0) -> None:
    """Raise Refused, naming the run and the ways out, if the pool's open run is live."""
    run = log.state().open_run
    if run is not None and _is_live(control, run, boot_s):
        raise Refused(
            f"refused: run {run.run} is live in pool {log.pool}; wait for its end, or stop it: "
            f"atoll runs stop {run.run} --stack {stack} (add --force if it does not answer)"
        )


def _is_live(control: Store, run: RunEntry, boot_s: float) -> bool:
    return is_live(run, read_presence(control), store_now(control, _me()), boot_s)


def _me() -> str:
    return f"provider-{os.getpid()}-{secrets.token_hex(4)}"
