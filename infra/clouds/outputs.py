"""What every cloud must return, and under which names the stack exports it."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """A deployed stack as its users see it."""

    stack_id: pulumi.Output[str]
    endpoint_url: pulumi.Output[str]
    api_key: pulumi.Output[str]  # secret
    store_urls: Mapping[str, pulumi.Output[str]]
    price_per_hour_usd: float


def export(deployment: Deployment) -> None:
    """Write the stack's outputs."""
    pulumi.export("stack_id", deployment.stack_id)
    pulumi.export("endpoint_url", deployment.endpoint_url)
    pulumi.export("api_key", pulumi.Output.secret(deployment.api_key))
    pulumi.export("store_urls", dict(deployment.store_urls))
    pulumi.export("price_per_hour_usd", deployment.price_per_hour_usd)
