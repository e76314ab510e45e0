"""The resources of `pulumi-resource-atoll` as the program writes them.

Property names on the wire are these names: nothing is translated.
"""

from collections.abc import Mapping

import pulumi


class AtollProvider(pulumi.ProviderResource):
    """The kit's own provider, explicit like all providers here."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atoll", name, {}, opts)


class Store(pulumi.CustomResource):
    """A folder that serves as a store; see `infra/provider/store.py` for its inputs."""

    url: pulumi.Output[str]

    def __init__(
        self, name: str, inputs: Mapping[str, object], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("atoll:index:Store", name, {**inputs, "url": None}, opts)


class Pool(pulumi.CustomResource):
    """A keeper with its nodes; see `infra/provider/pool.py` for its inputs."""

    def __init__(
        self, name: str, inputs: Mapping[str, object], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("atoll:index:Pool", name, {**inputs}, opts)


class Balancer(pulumi.CustomResource):
    """Envoy in front of the gateways; see `infra/provider/balancer.py` for its inputs."""

    url: pulumi.Output[str]

    def __init__(
        self, name: str, inputs: Mapping[str, object], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("atoll:index:Balancer", name, {**inputs, "url": None}, opts)


class ApiKey(pulumi.CustomResource):
    """The key of the endpoint (a secret) and its digest."""

    key: pulumi.Output[str]
    sha256: pulumi.Output[str]

    def __init__(
        self, name: str, inputs: Mapping[str, object], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("atoll:index:ApiKey", name, {**inputs, "key": None, "sha256": None}, opts)


class Guard(pulumi.CustomResource):
    """Depends on everything; its delete refuses while a run is live."""

    def __init__(
        self, name: str, inputs: Mapping[str, object], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("atoll:index:Guard", name, {**inputs}, opts)


class Proof(pulumi.CustomResource):
    """Everything depends on it; draws the stack's id, and its delete sweeps."""

    stack_id: pulumi.Output[str]

    def __init__(
        self, name: str, inputs: Mapping[str, object], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("atoll:index:Proof", name, {**inputs, "stack_id": None}, opts)
