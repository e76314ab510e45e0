"""What `--json` prints. Field names are stable: fields may be added, never renamed.

The reference page is made from these descriptions.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class Shape(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NodeShape(Shape):
    """A node of any pool."""

    node: str = Field(description="Name, unique in the stack.")
    pool: str = Field(description="`training`, `replica` or `gateway`.")
    address: str = Field(description="Address that other nodes reach it at.")
    pid: int | None = Field(
        description="Its process; null while none runs, and on a rented machine."
    )
    state: str = Field(
        description="What it says of itself; `lost` if silent; else the word of its keeper, or of "
        "the cloud. A rented machine that could not boot is told for a day."
    )
    why: str = Field(default="", description="Reason of a state that needs one.")


class RunShape(Shape):
    """A training run."""

    run: str = Field(description="Name.")
    state: str = Field(
        description="`claimed`, `running` or `dead` while open; else its outcome: `published`, "
        "`failed`, `cancelled`, `no-capacity` or `skipped`."
    )
    step: int | None = Field(description="Applied optimizer steps; null if none is known.")
    steps: int | None = Field(description="Steps of the whole run; null if not known.")
    loss: float | None = Field(description="Newest training loss, nats per token.")
    epoch: int | None = Field(description="Number of the newest membership; null before the first.")
    members: tuple[str, ...] = Field(description="Nodes of that membership in rank order.")
    tokens_per_s: float | None = Field(default=None, description="Over all members.")
    straggler: str = Field(default="", description="Who holds the others up, if one does.")
    pool: str = Field(description="Pool that trains it.")
    claimed_at: datetime = Field(description="When it was claimed.")
    why: str = Field(default="", description="Reason of its end.")


class EpochShape(Shape):
    """A membership of a run."""

    epoch: int = Field(description="Number, from 0.")
    members: tuple[str, ...] = Field(description="Nodes in rank order.")
    resume_step: int = Field(description="Applied steps that it began with.")
    at: datetime = Field(description="When it was decided.")
    why: str = Field(default="", description="Reason of the change.")
    steps_lost: int = Field(description="Applied steps that it took back.")
    detect_s: float | None = Field(description="Silence of a lost node until it was noticed.")
    agree_s: float | None = Field(description="From the first sign to the epoch's record.")
    form_s: float | None = Field(description="Until the new group stood.")
    fetch_s: float | None = Field(description="Until all members had the state.")
    first_step_s: float | None = Field(description="Until the first step was applied.")


class RunDetail(RunShape):
    """A run with all that is known of it."""

    epochs: tuple[EpochShape, ...] = Field(description="All memberships, oldest first.")
    steps_lost: int = Field(description="Applied steps that were taken back, over all epochs.")
    effective: float | None = Field(
        description="Share of the training time that went into steps that count."
    )
    metrics: tuple[dict[str, JsonValue], ...] = Field(
        description="Lines of the metrics files that count, oldest first, each with its `epoch`."
    )


class RunsShape(Shape):
    """All runs of a stack."""

    runs: tuple[RunShape, ...] = Field(description="Newest first.")


class RunStarted(Shape):
    """A run that was just claimed."""

    run: str = Field(description="Name.")
    pool: str = Field(description="Pool that trains it.")
    nodes: int = Field(description="Nodes that were asked for.")


class RunStopped(Shape):
    """A run after `stop`."""

    run: str = Field(description="Name.")
    state: str = Field(description="Its outcome.")
    is_changed: bool = Field(description="False if it had ended before.")


class ModelShape(Shape):
    """A published model version."""

    name: str = Field(description="Name of the model in the API.")
    digest: str = Field(description="Digest of the published files.")
    live: bool = Field(description="Whether replicas shall serve it.")
    run: str = Field(description="Run that made it.")
    step: int = Field(description="Steps it was trained for.")
    created_at: datetime = Field(description="When it was published.")
    metrics: dict[str, JsonValue] = Field(description="Figures of its last validation.")


class ModelsShape(Shape):
    """All model versions of a stack."""

    models: tuple[ModelShape, ...] = Field(description="Newest first.")


class ReplicaShape(Shape):
    """A serving engine."""

    node: str = Field(description="Name.")
    pid: int | None = Field(description="Its process.")
    state: str = Field(description="`starting`, `warming`, `ready`, `draining`, `stopped`, `lost`.")
    model: str | None = Field(description="Digest of the model version that it serves.")
    address: str = Field(description="HOST:PORT once it listens, else HOST.")
    why: str = Field(default="", description="Reason of a state that needs one.")


class GatewayShape(Shape):
    """A process that takes client requests."""

    node: str = Field(description="Name.")
    pid: int | None = Field(description="Its process.")
    state: str = Field(description="As of a replica.")
    address: str = Field(description="HOST:PORT once it listens, else HOST.")
    why: str = Field(default="", description="Reason of a state that needs one.")


class PoolSizeShape(Shape):
    """How many nodes a pool has now."""

    pool: str = Field(description="Name.")
    wanted: int | None = Field(description="Nodes that it shall have; null if nobody keeps it.")
    nodes: int = Field(description="Nodes that it holds, those that come and go included.")
    why: str = Field(default="", description="Why it can't have as many as wanted.")


class StatusShape(Shape):
    """A stack as it stands now."""

    stack: str = Field(description="Name of the Pulumi stack.")
    stack_id: str = Field(description="Random id that tags all that belongs to it.")
    endpoint_url: str | None = Field(description="Where clients connect; null if not up.")
    pools: tuple[PoolSizeShape, ...] = Field(description="All pools.")
    nodes: tuple[NodeShape, ...] = Field(description="All nodes of all pools.")
    runs: tuple[RunShape, ...] = Field(description="The newest runs, newest first.")
    models: tuple[ModelShape, ...] = Field(description="The newest model versions, newest first.")
    replicas: tuple[ReplicaShape, ...] = Field(description="Serving engines.")
    gateways: tuple[GatewayShape, ...] = Field(description="Processes that take requests.")


class ItemShape(Shape):
    """A thing of a stack."""

    kind: str = Field(
        description="`process`, `port`, `socket`, `folder`, `file` or `store`; on a cloud as "
        "people there call it: `instance`, `bucket`."
    )
    id: str = Field(description="Name of the thing among its kind.")
    where: str = Field(description="Path, command line or holder; on a cloud ARN and name.")
    usd_per_hour: float | None = Field(
        default=None, description="List price; null: not known, or by what is used of it."
    )


class SweepShape(Shape):
    """What a stack has left. Exit status 1 if anything is left."""

    stack: str = Field(description="Name of the Pulumi stack.")
    left: tuple[ItemShape, ...] = Field(description="Things that nobody asked to keep.")
    kept: tuple[ItemShape, ...] = Field(description="Stores that the stack file says to keep.")
    usd_per_hour: float = Field(description="Sum of what is left, as far as it is known.")


class CheckShape(Shape):
    """One thing that was looked at."""

    name: str = Field(description="What was looked at.")
    state: Literal["ok", "warn", "unknown", "fault"] = Field(
        description="How it stands; `unknown` where nobody could tell."
    )
    found: str = Field(description="What was found.")
    do: str = Field(default="", description="What to do about it.")


class DoctorShape(Shape):
    """Whether this machine, or an account, can carry a stack. Exit status 1 if there is a fault."""

    checks: tuple[CheckShape, ...] = Field(description="In the order they were made.")


class PoolShape(Shape):
    """Nodes of one role."""

    pool: str = Field(description="Name.")
    role: str = Field(description="`training`, `replica` or `gateway`.")
    nodes_at_rest: int = Field(description="Nodes while no run is on.")
    nodes_max: int = Field(description="Nodes while one is.")
    settings: dict[str, JsonValue] = Field(description="What its nodes are told.")


class StoreShape(Shape):
    """A store that would exist."""

    role: str = Field(description="`bundle`, `data`, `checkpoints`, `models` or `control`.")
    is_retained: bool = Field(description="Whether `destroy` keeps it.")


class CostShape(Shape):
    """A part of the price."""

    part: str = Field(description="What is paid for.")
    what: str = Field(description="How much of it, with what was assumed.")
    low_usd: float = Field(description="Lowest list price; spot prices have a range.")
    high_usd: float = Field(description="Highest list price.")
    per: str = Field(
        description="`hour`, always; `run hour`, while training nodes stand; or `run`, once each."
    )


class PlanShape(Shape):
    """What `up` would make of the stack file."""

    stack: str = Field(description="Name of the Pulumi stack.")
    cloud: str = Field(description="Where it would stand.")
    model_name: str = Field(description="Name of the model in the API.")
    stores: tuple[StoreShape, ...] = Field(description="All stores.")
    pools: tuple[PoolShape, ...] = Field(description="All pools.")
    endpoint_address: str | None = Field(description="Null: an address of the stack's own.")
    endpoint_domain: str | None = Field(description="Name that its certificate is for.")
    endpoint_port: int = Field(description="TCP port of the endpoint.")
    price_per_hour_usd: float = Field(description="Of all of it, at rest, at most.")
    price_per_hour_training_usd: float = Field(description="The same while a run goes on.")
    price_per_run_usd: float = Field(description="What the longest run adds, at most.")
    price_note: str = Field(description="Where the prices come from.")
    costs: tuple[CostShape, ...] = Field(description="The price by part.")
    advice: tuple[str, ...] = Field(description="What works, but not well.")


class AnswerShape(Shape):
    """A question and its answer."""

    model: str = Field(description="Name of the model that answered.")
    prompt: str = Field(description="The question.")
    text: str = Field(description="The answer.")
    finish_reason: str | None = Field(description="`stop` or `length`.")
    completion_tokens: int | None = Field(description="Tokens of the answer, as the server counts.")


class ReclaimShape(Shape):
    """A node that has been given notice."""

    node: str = Field(description="Name of the node.")
    pool: str = Field(description="Its pool.")
    after_s: float = Field(description="Seconds from the notice to its end.")


class UpShape(Shape):
    """A stack after `up`."""

    stack: str = Field(description="Name of the Pulumi stack.")
    endpoint_url: str = Field(description="Where clients connect.")
    is_changed: bool = Field(description="False if everything was in place.")
    run: str | None = Field(description="Run that was followed; null if none.")
    model: ModelShape | None = Field(description="The live model version.")
    answer: AnswerShape | None = Field(description="The question asked; null if nothing changed.")


class DownShape(Shape):
    """A stack after `down`. Exit status 1 if anything is left."""

    stack: str = Field(description="Name of the Pulumi stack.")
    is_destroyed: bool = Field(description="Whether `pulumi destroy` finished.")
    left: tuple[ItemShape, ...] = Field(description="As of `sweep`.")
    kept: tuple[ItemShape, ...] = Field(description="As of `sweep`.")
