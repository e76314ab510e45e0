"""Balancer of the one-machine cloud: Envoy in front of the gateways, with its keeper."""

import shutil
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from infra.checkout import stack_folder
from infra.plan.names import local_subnet
from infra.provider.balancer_keeper import (
    BalancerFile,
    balancer_alive,
    start_balancer,
    stop_balancer,
)
from infra.provider.kind import Context, Inputs, Kind
from infra.provider.wire import Properties


class BalancerInputs(Inputs):
    """Where clients connect, and which gateways answer."""

    home: str = Field(description="Folder of all stacks of this clone.")
    stack: str
    stack_id: str
    control_url: str
    address: str | None = Field(default=None, description="None: the stack's own address.")
    port: int = Field(ge=1, le=65535)
    gateways: int = Field(ge=1, description="Expected; fewer means keep looking.")


class BalancerKind(Kind[BalancerInputs]):
    """`atoll:index:Balancer`."""

    token: ClassVar[str] = "atoll:index:Balancer"  # noqa: S105
    replaces: ClassVar[frozenset[str]] = frozenset({"home", "stack", "stack_id"})
    computed: ClassVar[tuple[str, ...]] = ("url",)
    inputs = BalancerInputs

    def create(self, inputs: BalancerInputs, context: Context) -> tuple[str, Properties]:
        """Start Envoy and wait until it listens; refuse a port that is taken, naming its holder."""
        start_balancer(_balancer_file(inputs), context.cancelled)
        return f"{inputs.stack_id}/balancer", {"url": _url(inputs)}

    def read(self, inputs: BalancerInputs, computed: Properties) -> bool:
        """Whether its keeper lives."""
        return balancer_alive(Path(inputs.home), inputs.stack_id)

    def update(self, inputs: BalancerInputs, computed: Properties, context: Context) -> Properties:
        """Another address or count: Envoy starts anew, within a second."""
        start_balancer(_balancer_file(inputs), context.cancelled)
        return {"url": _url(inputs)}

    def delete(self, inputs: BalancerInputs, computed: Properties, context: Context) -> None:
        """End Envoy and its keeper."""
        stop_balancer(Path(inputs.home), inputs.stack_id)
        folder = stack_folder(Path(inputs.home), inputs.stack_id) / "balancer"
        shutil.rmtree(folder, ignore_errors=True)


def _address(inputs: BalancerInputs) -> str:
    return inputs.address or f"{local_subnet(inputs.stack_id)}.1"


def _url(inputs: BalancerInputs) -> str:
    return f"http://{_address(inputs)}:{inputs.port}"


def _balancer_file(inputs: BalancerInputs) -> BalancerFile:
    return BalancerFile(
        stack=inputs.stack,
        stack_id=inputs.stack_id,
        home=inputs.home,
        control_url=inputs.control_url,
        address=_address(inputs),
        port=inputs.port,
        admin_address=f"{local_subnet(inputs.stack_id)}.1",
        gateways=inputs.gateways,
    )
