"""Pools: each a keeper with its node processes."""

from collections.abc import Mapping

from pulumi import Output

from infra.bundle import build_bundle
from infra.checkout import ROOT
from infra.clouds.local.place import Place
from infra.clouds.resources import ApiKey, Pool, Store
from infra.plan.plan import PoolPlan


def make_pools(
    plans: tuple[PoolPlan, ...], stores: Mapping[str, Store], api_key: ApiKey, place: Place
) -> list[Pool]:
    """All pools of the plan; they start side by side and find each other by presence."""
    sha256 = build_bundle(ROOT).sha256
    return [_pool(plan, sha256, stores, api_key, place) for plan in plans]


def _pool(
    plan: PoolPlan, sha256: str, stores: Mapping[str, Store], api_key: ApiKey, place: Place
) -> Pool:
    template: dict[str, object] = {
        "stack": place.stack,
        "stack_id": place.stack_id,
        "cloud": "local",
        "pool": plan.name,
        "bundle_sha256": sha256,
        "stores": {role: store.url for role, store in stores.items()},
    }
    if plan.train is not None:
        template["train"] = plan.train.model_dump(mode="json", exclude_none=True)
    if plan.serve is not None:
        template["serve"] = plan.serve.model_dump(mode="json", exclude_none=True)
    if plan.gateway is not None:
        gateway = plan.gateway.model_dump(mode="json", exclude_none=True)
        template["gateway"] = {**gateway, "api_key_sha256": [Output.unsecret(api_key.sha256)]}
    inputs = {
        **place.inputs(),
        "pool": plan.name,
        "role": plan.role,
        "size": plan.size_at_rest,
        "size_max": plan.size_max,
        "template": template,
    }
    if plan.schedule is not None:
        inputs["schedule"] = plan.schedule.model_dump(mode="json")
    return Pool(plan.name, inputs, place.after(*stores.values()))
