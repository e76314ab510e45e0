"""`atoll plan`: what `up` would make of a stack file. Needs neither the engine nor an account."""

from pathlib import Path

import yaml

from infra.checkout import ROOT
from infra.cli.screen import Screen
from infra.cli.shapes import CostShape, PlanShape, PoolShape, StoreShape
from infra.clouds import look
from infra.config import read_spec
from infra.plan.money import Cost, told, told_most
from infra.plan.plan import Plan, PoolPlan, plan
from infra.plan.spec import StackSpec
from runtime.errors import Refused

FOLDER = ROOT / "stacks"  # stackConfigDir of Pulumi.yaml


def planned(stack: str, folder: Path = FOLDER) -> PlanShape:
    """What a stack file would make; raises Refused with every fault at once."""
    return _shape(stack, decide(stack, folder)[1])


def decide(stack: str, folder: Path = FOLDER) -> tuple[StackSpec, Plan]:
    """Read a stack file and decide; raises Refused with every fault at once."""
    spec, faults = read_spec(_config(stack, folder))
    return spec, plan(spec, look(spec), faults)


def print_plan(shape: PlanShape, screen: Screen) -> None:
    """For people."""
    screen.line(f"stack {shape.stack} on {shape.cloud}, model {shape.model_name}", "bold")
    screen.table(
        "pools",
        ("pool", "nodes at rest", "most"),
        [(p.pool, str(p.nodes_at_rest), str(p.nodes_max)) for p in shape.pools],
    )
    screen.table(
        "stores",
        ("store", "after destroy"),
        [(s.role, "kept" if s.is_retained else "removed") for s in shape.stores],
    )
    address = shape.endpoint_address or "an address of the stack's own"
    screen.line(f"endpoint port {shape.endpoint_port} on {shape.endpoint_domain or address}")
    if shape.costs:
        screen.table(
            "price",
            ("part", "what", "USD", "per"),
            [(c.part, c.what, told((c.low_usd, c.high_usd)), c.per) for c in shape.costs],
        )
        screen.line(told_most(shape.price_per_hour_training_usd, shape.price_per_run_usd))
    screen.line(f"price {shape.price_per_hour_usd:.2f} USD per hour: {shape.price_note}")
    for sentence in shape.advice:
        screen.line(f"advice: {sentence}")


def _config(stack: str, folder: Path) -> dict[str, object]:
    """The `config` of a stack file."""
    path = folder / f"Pulumi.{stack}.yaml"
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        known = sorted(p.name.split(".")[1] for p in folder.glob("Pulumi.*.yaml"))
        raise Refused(
            f"stack {stack}: found no {path}; allowed {', '.join(known) or 'none yet'}; "
            "name one of them with --stack, or write the file"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        raise Refused(f"{path}: {' '.join(str(fault).split())}") from fault
    if content is None:
        return {}
    config = content.get("config") or {} if isinstance(content, dict) else content
    if not isinstance(config, dict):
        raise Refused(f"{path}: found a `config` that is no mapping; write atoll:… keys below it")
    return {str(key): value for key, value in config.items()}


def _shape(stack: str, decided: Plan) -> PlanShape:
    return PlanShape(
        stack=stack,
        cloud=decided.cloud,
        model_name=decided.model_name,
        stores=tuple(StoreShape(role=s.role, is_retained=s.is_retained) for s in decided.stores),
        pools=tuple(_pool(pool) for pool in decided.pools),
        endpoint_address=decided.balancer.address,
        endpoint_domain=decided.balancer.access.domain,
        endpoint_port=decided.balancer.port,
        price_per_hour_usd=decided.price.usd_per_hour(is_training=False)[1],
        price_per_hour_training_usd=decided.price.usd_per_hour(is_training=True)[1],
        price_per_run_usd=decided.price.usd_per_run[1],
        price_note=decided.price.note,
        costs=tuple(_cost(cost) for cost in decided.price.costs),
        advice=decided.advice,
    )


def _cost(cost: Cost) -> CostShape:
    return CostShape(
        part=cost.part, what=cost.what, low_usd=cost.low_usd, high_usd=cost.high_usd, per=cost.per
    )


def _pool(pool: PoolPlan) -> PoolShape:
    told = pool.train or pool.serve or pool.gateway
    return PoolShape(
        pool=pool.name,
        role=pool.role,
        nodes_at_rest=pool.size_at_rest,
        nodes_max=pool.size_max,
        settings=told.model_dump(mode="json") if told is not None else {},
    )
