"""What every cloud must return, and under which names the stack exports it."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from infra.plan.money import Price


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """A deployed stack as its users see it."""

    stack_id: pulumi.Output[str]
    endpoint_url: pulumi.Output[str]
    api_key: pulumi.Output[str]  # secret
    store_urls: Mapping[str, pulumi.Output[str]]
    price: Price


def export(deployment: Deployment) -> None:
    """Write the stack's outputs."""
    pulumi.export("stack_id", deployment.stack_id)
    pulumi.export("endpoint_url", deployment.endpoint_url)
    pulumi.export("api_key", pulumi.Output.secret(deployment.api_key))
    pulumi.export("store_urls", dict(deployment.store_urls))
    price = deployment.price
    pulumi.export("price_per_hour_usd", price.usd_per_hour(is_training=False)[1])
    pulumi.export("price_per_hour_training_usd", price.usd_per_hour(is_training=True)[1])
    pulumi.export("price_per_run_usd", price.usd_per_run[1])
