"""AWS as a cloud: buckets as stores, Auto Scaling groups as pools, an ALB as balancer.

`depends_on` is written out everywhere: the engine drops it when a resource transform sets it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pulumi_aws as aws
from pulumi import InvokeOutputOptions, Output, Resource, ResourceOptions

from infra.bundle import build_bundle, texts_once
from infra.checkout import ROOT, home
from infra.clouds.aws.balancer import make_balancer
from infra.clouds.aws.identity import make_api_key, make_identities
from infra.clouds.aws.lookups import image_name
from infra.clouds.aws.network import make_network
from infra.clouds.aws.nodes import Start, make_pool
from infra.clouds.aws.place import Place
from infra.clouds.aws.rights import log_group_name
from infra.clouds.aws.stores import Bucket, make_stores, urls
from infra.clouds.aws.timer import make_timer
from infra.clouds.aws.watch import make_log_group, make_watch
from infra.clouds.description import describe
from infra.clouds.outputs import Deployment
from infra.clouds.resources import ApiKey, AtollProvider, Guard, Proof
from infra.engine.set_up import pinned
from infra.plan.boot import Boot, boot_text
from infra.plan.limits import stop_s
from infra.plan.names import Role
from infra.plan.plan import Plan, PoolPlan
from runtime.limits import LEAVE_S
from runtime.node_spec import AwsPlace, NodeTemplate, StoreUrls


def deploy(plan: Plan, project: str, stack: str) -> Deployment:
    """Declare the stack: proof first, guard last, all else between them."""
    assert plan.region is not None, "refused before"
    own = AtollProvider("atoll")
    training = [pool.name for pool in plan.pools if pool.role == "training"]
    proof = Proof(
        "proof",
        {
            "home": str(home()),
            "project": project,
            "stack": stack,
            "pools": training,
            "cloud": "aws",
            "region": plan.region,
        },
        ResourceOptions(provider=own),
    )
    place = _place(plan.region, project, stack, own, proof)
    api_key = make_api_key(place)
    bundle = build_bundle(ROOT)
    texts = None if plan.texts is None else texts_once(Path(plan.texts))
    stores = make_stores(plan.stores, bundle, texts, place)
    network = make_network(plan.zones, plan.balancer, place)
    identities = make_identities(get_args(Role), stores, make_log_group(place), place)
    drain_s = max(pool.gateway.drain_s for pool in plan.pools if pool.gateway is not None)
    balancer = make_balancer(plan.balancer, drain_s, network, place)
    watch = make_watch(plan.budget, balancer, place)
    last: list[Resource] = [api_key, balancer.last, *watch]
    for pool in plan.pools:
        start = Start(
            image_id=_image(pool, place),
            text=_text(pool, bundle.sha256, stores, api_key, place),
            identity=identities[pool.role],
        )
        target = balancer.target_group_arn if pool.role == "gateway" else None
        made = make_pool(pool, start, network, target, place)
        last.append(made.last)
        if pool.role == "training":
            last += make_timer(pool.schedule, pool.size_max, plan.run_hours, made, place)
    Guard(
        "guard",
        {
            "home": str(home()),
            "stack": stack,
            "stack_id": place.stack_id,
            "control_url": stores["control"].url,
            "pools": training,
            "region": plan.region,
            "description": describe(plan, stack, place.stack_id, balancer.url),
        },
        place.after_ours(*last),
    )
    return Deployment(
        stack_id=place.stack_id,
        endpoint_url=balancer.url,
        api_key=Output.secret(api_key.key),
        store_urls=urls(stores),
        price=plan.price,
    )


def _place(region: str, project: str, stack: str, own: AtollProvider, proof: Proof) -> Place:
    provider = aws.Provider("aws", region=region)
    account = aws.get_caller_identity_output(opts=InvokeOutputOptions(provider=provider))
    return Place(
        project=project,
        stack=stack,
        stack_id=proof.stack_id,
        region=region,
        account=account.account_id,
        provider=provider,
        own=own,
        proof=proof,
    )


def _image(pool: PoolPlan, place: Place) -> Output[str]:
    return aws.ssm.get_parameter_output(
        name=image_name(pool.rented), opts=place.asking()
    ).insecure_value


def _text(
    pool: PoolPlan, sha256: str, stores: Mapping[str, Bucket], api_key: ApiKey, place: Place
) -> Output[str]:
    """The boot text: known once the names of the stores are."""
    return Output.all(
        place.stack_id,
        place.name(pool.name),
        Output.all(**urls(stores)),
        Output.unsecret(api_key.sha256),
    ).apply(lambda a: _boot_text(pool, place, sha256, *a))


def _boot_text(
    pool: PoolPlan,
    place: Place,
    sha256: str,
    stack_id: str,
    group: str,
    store_urls: Mapping[str, str],
    key_sha256: str,
) -> str:
    gateway = pool.gateway
    template = NodeTemplate(
        stack=place.stack,
        stack_id=stack_id,
        cloud="aws",
        pool=pool.name,
        bundle_sha256=sha256,
        stores=StoreUrls(**store_urls),
        train=pool.train,
        serve=pool.serve,
        gateway=gateway and gateway.model_copy(update={"api_key_sha256": (key_sha256,)}),
        aws=AwsPlace(region=place.region, group=group, log_group=log_group_name(stack_id)),
    )
    installer = pinned((ROOT / "requirements.lock").read_text(), "uv")
    return boot_text(Boot(template=template, installer=installer, stop_s=_stop_s(pool)))


def _stop_s(pool: PoolPlan) -> float:
    if pool.gateway is not None:
        return stop_s(pool.gateway.drain_s, pool.gateway.notice_s)
    return stop_s(LEAVE_S if pool.serve is None else pool.serve.drain_s)
