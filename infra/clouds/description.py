"""What a stack says of itself in its control store, for whoever finds it there.

Written at the end of `up`. It holds what a cloud can't tell of it: which role a pool has, how many
nodes a run wants and for how long at most, and the name that the endpoint goes by.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.plan.names import Role
from runtime.errors import Corrupt, Missing
from runtime.objects import Store

if TYPE_CHECKING:  # a reader needs no engine
    from pulumi import Input

    from infra.plan.plan import Plan

KEY = "stack.json"


class PoolDescription(BaseModel):
    """A pool as it was planned."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pool: str
    role: Role
    nodes_at_rest: int = Field(ge=0)
    nodes_max: int = Field(ge=1)


class StackDescription(BaseModel):
    """Fields may be added; a reader passes over what it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    stack: str
    stack_id: str
    cloud: str
    region: str | None = None  # of a rented cloud
    version: str  # of the kit that made it
    endpoint_url: str
    run_hours: float = Field(gt=0, description="Longest time that training nodes stand for a run.")
    pools: tuple[PoolDescription, ...]


def describe(
    plan: "Plan", stack: str, stack_id: "Input[str]", endpoint_url: "Input[str]"
) -> Mapping[str, object]:
    """The description as an input of the Guard."""
    region = {} if plan.region is None else {"region": plan.region}
    return {
        "stack": stack,
        "stack_id": stack_id,
        "cloud": plan.cloud,
        **region,
        "version": version("atoll"),
        "endpoint_url": endpoint_url,
        "run_hours": plan.run_hours,
        "pools": [
            {
                "pool": pool.name,
                "role": pool.role,
                "nodes_at_rest": pool.size_at_rest,
                "nodes_max": pool.size_max,
            }
            for pool in plan.pools
        ],
    }


def write_description(control: Store, description: StackDescription) -> None:
    """Renew it; raises Unavailable."""
    control.put(KEY, description.model_dump_json(exclude_none=True).encode())


def read_description(control: Store) -> StackDescription | None:
    """What the stack says; None before its first `up` is done. Raises Unavailable or Corrupt."""
    try:
        return StackDescription.model_validate_json(control.get(KEY))
    except Missing:
        return None
    except ValidationError as fault:
        raise Corrupt(f"{KEY} of the control store: {fault}; write it anew with: make up") from None
