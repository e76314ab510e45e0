"""Pool of the one-machine cloud: a keeper process that holds N node processes.

How many run now is the keeper's state, not an input: `size` is what the pool has at rest (0 for
training), and a timer, `atoll runs start` or the nodes themselves move it.
"""

import shutil
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from infra.checkout import stack_folder
from infra.plan.names import node_name
from infra.provider.guard import hold_pool
from infra.provider.keeper import PoolFile, keeper_alive, start_keeper, stop_keeper
from infra.provider.kind import Context, Incomplete, Inputs, Kind
from infra.provider.wire import Properties
from runtime.clouds.local import LocalPool, NodeDescription
from runtime.coordination.log import PoolLog, Presence, read_presence
from runtime.errors import Unavailable
from runtime.node_spec import NodeTemplate, Schedule
from runtime.objects import open_store

READY_S = 90.0  # for all nodes of a pool to be up on a loaded machine
LOOK_S = 0.2  # presence is read this often meanwhile
SAY_S = 2.0  # and told this often


class PoolInputs(Inputs):
    """What the keeper shall keep."""

    home: str = Field(description="Folder of all stacks of this clone.")
    stack: str
    stack_id: str
    pool: str
    role: Literal["training", "replica", "gateway"]
    size: int = Field(ge=0, description="Nodes at rest.")
    size_max: int = Field(ge=1)
    template: NodeTemplate = Field(description="The node file, less what is each node's own.")
    schedule: Schedule | None = None


class PoolKind(Kind[PoolInputs]):
    """`atoll:index:Pool`."""

    token: ClassVar[str] = "atoll:index:Pool"  # noqa: S105
    replaces: ClassVar[frozenset[str]] = frozenset({"home", "stack", "stack_id", "pool", "role"})
    inputs = PoolInputs

    def create(self, inputs: PoolInputs, context: Context) -> tuple[str, Properties]:
        """Start a keeper, or take over the one that a killed `up` left."""
        try:
            start_keeper(_pool_file(inputs))
        except Unavailable as fault:  # it may still come up
            raise _incomplete(inputs, str(fault)) from fault
        _wait_for_nodes(inputs, context)
        return _id(inputs), {}

    def read(self, inputs: PoolInputs, computed: Properties) -> bool:
        """Whether its keeper lives."""
        return keeper_alive(Path(inputs.home), inputs.stack_id, inputs.pool)

    def update(self, inputs: PoolInputs, computed: Properties, context: Context) -> Properties:
        """Change the running keeper; it rolls nodes whose file changed. Never under a run."""
        control = open_store(inputs.template.stores.control)
        if inputs.role == "training":
            hold_pool(control, inputs.pool, inputs.stack, f"up of {inputs.stack}")
        start_keeper(_pool_file(inputs))
        if inputs.role == "training":
            PoolLog(control, inputs.pool, "provider").release(datetime.now(UTC))
        else:
            LocalPool(inputs.stack_id, inputs.pool).set_size(inputs.size)
        _wait_for_nodes(inputs, context)
        return computed

    def delete(self, inputs: PoolInputs, computed: Properties, context: Context) -> None:
        """Let open requests finish, end all processes, remove all folders of the pool."""
        context.say("stopping nodes")
        stop_keeper(Path(inputs.home), inputs.stack_id, inputs.pool)
        folder = stack_folder(Path(inputs.home), inputs.stack_id)
        shutil.rmtree(folder / "pools" / inputs.pool, ignore_errors=True)
        for path in folder.glob(f"nodes/{inputs.pool}-*"):  # also of a pool that was larger once
            if path.name.removeprefix(f"{inputs.pool}-").isdigit():
                shutil.rmtree(path, ignore_errors=True)
        context.say("stopped")


def _pool_file(inputs: PoolInputs) -> PoolFile:
    return PoolFile(
        stack=inputs.stack,
        stack_id=inputs.stack_id,
        home=inputs.home,
        pool=inputs.pool,
        role=inputs.role,
        size=inputs.size,
        size_max=inputs.size_max,
        template=inputs.template,
        schedule=inputs.schedule,
        python=sys.executable,
    )


def _wait_for_nodes(inputs: PoolInputs, context: Context) -> None:
    """Until the nodes that the pool has at rest run by this file, and no others, as they say.

    A training pool is not waited for: it rests at 0, and what it holds now belongs to a run.
    Raises Incomplete if a node refuses its work, or it takes too long.
    """
    wanted = [node_name(inputs.pool, index) for index in range(inputs.size)]
    if inputs.role == "training":
        context.say("at rest: no nodes until a run starts")
        return
    longest_s = READY_S + _pool_file(inputs).stop_s
    most, deadline, said = 0, time.monotonic() + longest_s, 0.0
    while True:
        described = _described(inputs)
        seen = {p.node: p for p in _presences(inputs)}
        pids = {node.node: node.pid for node in described if not node.is_stale}
        up = [name for name in wanted if _is_up(seen.get(name), pids)]
        leaving = sorted({node.node for node in described} - set(wanted))
        progress = f"{len(up)} of {len(wanted)} nodes up" + (
            f", {', '.join(leaving)} leaving" if leaving else ""
        )
        if len(up) == len(wanted) and not leaving:
            context.say(f"{len(up)} nodes up")
            return
        refused = [p for p in seen.values() if p.state == "refused" and p.node in wanted]
        if refused:
            raise _incomplete(inputs, f"node {refused[0].node}: {refused[0].why}")
        if len(up) > most:  # they are replaced one after another
            most, deadline = len(up), time.monotonic() + longest_s
        if context.cancelled.wait(LOOK_S):
            raise _incomplete(inputs, f"cancelled with {progress}")
        if time.monotonic() > deadline:
            raise _incomplete(inputs, f"{progress}, after {READY_S:.0f} s; see {_logs(inputs)}")
        if time.monotonic() - said > SAY_S:
            said = time.monotonic()
            context.say(progress)


def _described(inputs: PoolInputs) -> tuple[NodeDescription, ...]:
    try:
        return LocalPool(inputs.stack_id, inputs.pool).describe().nodes
    except Unavailable as fault:  # killed meanwhile: the next `up` starts another keeper
        raise _incomplete(inputs, str(fault)) from fault


def _presences(inputs: PoolInputs) -> list[Presence]:
    control = open_store(inputs.template.stores.control)
    return [p for p, _ in read_presence(control) if p.pool == inputs.pool]


def _incomplete(inputs: PoolInputs, why: str) -> Incomplete:
    return Incomplete(_id(inputs), {}, f"pool {inputs.pool}: {why}")


def _logs(inputs: PoolInputs) -> str:
    return f"{stack_folder(Path(inputs.home), inputs.stack_id)}/nodes/*/node.log"


def _id(inputs: PoolInputs) -> str:
    return f"{inputs.stack_id}/{inputs.pool}"


def _is_up(presence: Presence | None, pids: Mapping[str, int | None]) -> bool:
    """Whether the process that runs now, not an earlier one, says that its role is running."""
    if presence is None or presence.pid != pids.get(presence.node):
        return False
    return presence.state not in {"starting", "refused", "failed", "stopped"}
