"""One machine as a cloud: folders as stores, processes as nodes, Envoy as balancer.

`depends_on` is written out everywhere: the engine drops it when a resource transform sets it.
"""

from pulumi import Output, ResourceOptions

from infra.checkout import home
from infra.clouds.description import describe
from infra.clouds.local.balancer import make_balancer
from infra.clouds.local.identity import make_api_key
from infra.clouds.local.nodes import make_pools
from infra.clouds.local.place import Place
from infra.clouds.local.stores import make_stores
from infra.clouds.outputs import Deployment
from infra.clouds.resources import AtollProvider, Guard, Proof
from infra.plan.plan import Plan


def deploy(plan: Plan, project: str, stack: str) -> Deployment:
    """Declare the stack: proof first, guard last, all else between them."""
    provider = AtollProvider("atoll")
    training = [pool.name for pool in plan.pools if pool.role == "training"]
    proof = Proof(
        "proof",
        {"home": str(home()), "project": project, "stack": stack, "pools": training},
        ResourceOptions(provider=provider),
    )
    place = Place(stack=stack, stack_id=proof.stack_id, provider=provider, proof=proof)
    api_key = make_api_key(place)
    stores = make_stores(plan.stores, place)
    pools = make_pools(plan.pools, stores, api_key, place)
    balancer = make_balancer(plan, stores, place, pools)
    Guard(
        "guard",
        {
            **place.inputs(),
            "control_url": stores["control"].url,
            "pools": training,
            "description": describe(plan, stack, proof.stack_id, balancer.url),
        },
        place.after(api_key, *stores.values(), *pools, balancer),
    )
    return Deployment(
        stack_id=proof.stack_id,
        endpoint_url=balancer.url,
        api_key=Output.secret(api_key.key),
        store_urls={role: store.url for role, store in stores.items()},
        price=plan.price,
    )
