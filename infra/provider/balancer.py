"""Balancer of the one-machine cloud: Envoy in front of the gateways, with its keeper."""

import shutil
import sys
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from infra.plan.names import balancer_address
from infra.provider.balancer_keeper import (
    balancer_alive,
    start_balancer,
    stop_balancer,
)
from infra.provider.keeping.balancer import BalancerFile, balancer_folder
from infra.provider.kind import Context, Incomplete, Inputs, Kind
from infra.provider.wire import Properties
from runtime.errors import Unavailable


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
        self._start(inputs, context)
        return _id(inputs), {"url": _url(inputs)}

    def read(self, inputs: BalancerInputs, computed: Properties) -> bool:
        """Whether its keeper lives."""
        return balancer_alive(inputs.stack_id)

    def update(self, inputs: BalancerInputs, computed: Properties, context: Context) -> Properties:
        """Another address or port: Envoy starts anew, within a second; else it goes on."""
        self._start(inputs, context)
        return {"url": _url(inputs)}

    def delete(self, inputs: BalancerInputs, computed: Properties, context: Context) -> None:
        """End Envoy and its keeper."""
        stop_balancer(inputs.stack_id)
        folder = balancer_folder(Path(inputs.home), inputs.stack_id)
        shutil.rmtree(folder, ignore_errors=True)

    def _start(self, inputs: BalancerInputs, context: Context) -> None:
        try:
            start_balancer(_balancer_file(inputs), context.cancelled)
        except Unavailable as fault:  # something of it may run
            raise Incomplete(_id(inputs), {"url": _url(inputs)}, str(fault)) from fault
        context.say(f"listens on {_url(inputs)}")


def _id(inputs: BalancerInputs) -> str:
    return f"{inputs.stack_id}/balancer"


def _address(inputs: BalancerInputs) -> str:
    return inputs.address or balancer_address(inputs.stack_id)


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
        gateways=inputs.gateways,
        python=sys.executable,
    )
