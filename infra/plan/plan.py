"""StackSpec → Plan: everything that will exist, named and sized. Every refusal happens here.

Pure. Names that carry the stack's id are made where the id is known (`names.py`; decision 0003).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infra.plan.budget import alert_faults, budget_advice, budget_faults
from infra.plan.facts import Facts
from infra.plan.fault import Fault, Faults, without_echoes
from infra.plan.money import Price, price
from infra.plan.names import Role
from infra.plan.network import BalancerPlan, balancer_plan, network_faults
from infra.plan.pools import cores, pool, pool_advice, pool_faults
from infra.plan.region import has_region, region_faults
from infra.plan.schedule import schedule_faults
from infra.plan.serving import gateway_spec, serve_spec, serving_advice, serving_faults
from infra.plan.spec import BudgetSpec, CloudName, PoolSpec, StackSpec
from infra.plan.stores import StorePlan, store_plans
from infra.plan.training import device_faults, train_spec, training_advice, training_faults
from runtime.node_spec import GatewaySpec, Schedule, ServeSpec, TrainSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolPlan:
    """Nodes of one role; exactly one of train, serve and gateway is set."""

    name: str
    role: Role
    size_at_rest: int
    size_max: int
    rented: PoolSpec  # its machines; blank on a machine of one's own
    train: TrainSpec | None = None
    serve: ServeSpec | None = None
    gateway: GatewaySpec | None = None
    schedule: Schedule | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A stack before it exists."""

    cloud: CloudName
    region: str | None  # of a rented cloud
    zones: tuple[str, ...]
    model_name: str
    stores: tuple[StorePlan, ...]
    texts: str | None  # what is put into the store of data, from this machine
    pools: tuple[PoolPlan, ...]
    balancer: BalancerPlan
    price: Price
    budget: BudgetSpec  # who is warned of what
    run_hours: float  # longest time that a rented training pool stands for one run
    advice: tuple[str, ...]  # what works, but not well; one sentence each


def plan(spec: StackSpec, facts: Facts, known: Sequence[Fault] = ()) -> Plan:
    """Decide all, or raise Faults with every reason at once, the reader's faults included."""
    faults = [*known, *without_echoes(plan_faults(spec, facts), known)]
    if faults:
        raise Faults(faults)
    return Plan(
        cloud=spec.cluster.cloud,
        region=spec.cluster.region,
        zones=spec.cluster.zones,
        model_name=spec.training.model_name,
        stores=store_plans(spec.cluster),
        texts=facts.texts,
        pools=_pools(spec, facts),
        balancer=balancer_plan(spec.access, spec.cluster.cloud),
        price=price(spec),
        budget=spec.budget,
        run_hours=spec.budget.run_hours,
        advice=tuple(_advice(spec, facts)),
    )


def plan_faults(spec: StackSpec, facts: Facts) -> list[Fault]:
    """Every reason why this spec can't be deployed."""
    return [
        *_rented_faults(spec),
        *training_faults(spec.training, facts),
        *device_faults(spec.training, spec.cluster.cloud),
        *schedule_faults(spec.training.schedule, spec.cluster.cloud, spec.budget.run_hours),
        *serving_faults(spec.serving, spec.training, spec.cluster.cloud),
        *network_faults(spec.access, spec.cluster.cloud),
        *alert_faults(spec.budget),
    ]


def _rented_faults(spec: StackSpec) -> Iterator[Fault]:
    """What a region has can be judged once there is one, and a price once there are machines."""
    yield from region_faults(spec)
    if spec.cluster.cloud != "local" and has_region(spec.cluster):
        faults = pool_faults(spec)
        yield from faults or budget_faults(spec)


def _advice(spec: StackSpec, facts: Facts) -> Iterator[str]:
    """Nodes share the cores of a machine of one's own; a rented machine is a node's alone."""
    if spec.cluster.cloud == "local":
        yield from training_advice(spec.training, facts)
        yield from serving_advice(spec.serving, facts)
    else:
        yield from pool_advice(spec)
        yield from budget_advice(spec.budget)


def _pools(spec: StackSpec, facts: Facts) -> tuple[PoolPlan, ...]:
    training_cores = cores(spec, "training", spec.training.nodes, facts)
    replica_cores = cores(spec, "replica", spec.serving.replicas, facts)
    return (
        PoolPlan(
            name="training",
            role="training",
            size_at_rest=0,
            size_max=spec.training.nodes,
            rented=pool(spec, "training"),
            train=train_spec(spec.training, facts, training_cores),
            schedule=spec.training.schedule,
        ),
        PoolPlan(
            name="replica",
            role="replica",
            size_at_rest=spec.serving.replicas,
            size_max=spec.serving.replicas,
            rented=pool(spec, "replica"),
            serve=serve_spec(spec.serving, spec.training, replica_cores),
        ),
        PoolPlan(
            name="gateway",
            role="gateway",
            size_at_rest=spec.serving.gateways,
            size_max=spec.serving.gateways,
            rented=pool(spec, "gateway"),
            gateway=gateway_spec(spec.serving, spec.cluster.cloud),
        ),
    )
