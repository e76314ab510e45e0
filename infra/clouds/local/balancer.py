"""The balancer: Envoy, which finds the gateways through their presence."""

from collections.abc import Mapping

from infra.clouds.local.place import Place
from infra.clouds.resources import Balancer, Pool, Store
from infra.plan.plan import Plan


def make_balancer(
    plan: Plan, stores: Mapping[str, Store], place: Place, pools: list[Pool]
) -> Balancer:
    """Made after the pools, hence gone before them: no client meets a half-stopped gateway."""
    inputs: dict[str, object] = {
        **place.inputs(),
        "control_url": stores["control"].url,
        "port": plan.balancer.port,
        "gateways": sum(pool.size_at_rest for pool in plan.pools if pool.role == "gateway"),
    }
    if plan.balancer.address is not None:
        inputs["address"] = plan.balancer.address
    return Balancer("balancer", inputs, place.after(*stores.values(), *pools))
