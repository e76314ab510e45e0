"""StackSpec → Plan: everything that will exist, named and sized. Every refusal happens here.

Pure. Names that carry the stack's id are made where the id is known (`names.py`; decision 0003).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infra.plan.facts import Facts
from infra.plan.fault import Fault, Faults, without_echoes
from infra.plan.money import price
from infra.plan.names import Role
from infra.plan.network import BalancerPlan, balancer_plan, network_faults
from infra.plan.schedule import schedule_faults
from infra.plan.serving import gateway_spec, serve_spec, serving_advice, serving_faults
from infra.plan.settings import at
from infra.plan.spec import CloudName, StackSpec
from infra.plan.stores import StorePlan, store_plans
from infra.plan.training import device_faults, train_spec, training_advice, training_faults
from runtime.node_spec import GatewaySpec, Schedule, ServeSpec, TrainSpec

CLOUDS: tuple[CloudName, ...] = ("local",)  # those that the kit can deploy to


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolPlan:
    """Nodes of one role; exactly one of train, serve and gateway is set."""

    name: str
    role: Role
    size_at_rest: int
    size_max: int
    train: TrainSpec | None = None
    serve: ServeSpec | None = None
    gateway: GatewaySpec | None = None
    schedule: Schedule | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A stack before it exists."""

    cloud: CloudName
    model_name: str
    stores: tuple[StorePlan, ...]
    pools: tuple[PoolPlan, ...]
    balancer: BalancerPlan
    price_per_hour_usd: float
    price_note: str
    advice: tuple[str, ...]  # what works, but not well; one sentence each


def plan(spec: StackSpec, facts: Facts, known: Sequence[Fault] = ()) -> Plan:
    """Decide all, or raise Faults with every reason at once, the reader's faults included."""
    faults = [*known, *without_echoes(plan_faults(spec, facts), known)]
    cost = price(spec.cluster)
    if faults or cost is None:
        raise Faults(faults)
    return Plan(
        cloud=spec.cluster.cloud,
        model_name=spec.training.model_name,
        stores=store_plans(spec.cluster),
        pools=_pools(spec, facts),
        balancer=balancer_plan(spec.access),
        price_per_hour_usd=cost.per_hour_usd,
        price_note=cost.note,
        advice=(*training_advice(spec.training, facts), *serving_advice(spec.serving, facts)),
    )


def plan_faults(spec: StackSpec, facts: Facts) -> list[Fault]:
    """Every reason why this spec can't be deployed."""
    return [
        *_cloud_faults(spec),
        *training_faults(spec.training, facts),
        *device_faults(spec.training, spec.cluster.cloud),
        *schedule_faults(spec.training.schedule, spec.cluster.cloud),
        *serving_faults(spec.serving, spec.training),
        *network_faults(spec.access),
    ]


def _cloud_faults(spec: StackSpec) -> Iterator[Fault]:
    if spec.cluster.cloud not in CLOUDS or price(spec.cluster) is None:
        yield Fault(
            at=at("cluster.cloud"),
            found=f"{spec.cluster.cloud}, which this version can't deploy to or price yet",
            allowed=", ".join(CLOUDS),
            do="choose one of these",
        )


def _pools(spec: StackSpec, facts: Facts) -> tuple[PoolPlan, ...]:
    return (
        PoolPlan(
            name="training",
            role="training",
            size_at_rest=0,
            size_max=spec.training.nodes,
            train=train_spec(spec.training, facts),
            schedule=spec.training.schedule,
        ),
        PoolPlan(
            name="replica",
            role="replica",
            size_at_rest=spec.serving.replicas,
            size_max=spec.serving.replicas,
            serve=serve_spec(spec.serving, spec.training, facts),
        ),
        PoolPlan(
            name="gateway",
            role="gateway",
            size_at_rest=spec.serving.gateways,
            size_max=spec.serving.gateways,
            gateway=gateway_spec(spec.serving),
        ),
    )
