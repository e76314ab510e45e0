"""Access spec → the balancer's part of the plan, and its faults."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address

from infra.plan.fault import Fault
from infra.plan.limits import PORTS_USED
from infra.plan.settings import at
from infra.plan.spec import AccessSpec

ANY = "0.0.0.0"  # noqa: S104 compared with, not listened on


@dataclass(frozen=True, kw_only=True, slots=True)
class BalancerPlan:
    """Where the balancer listens."""

    port: int
    address: str | None  # None: an address of the stack's own


def balancer_plan(spec: AccessSpec) -> BalancerPlan:
    """The one endpoint."""
    return BalancerPlan(port=spec.port, address=spec.address)


def network_faults(spec: AccessSpec) -> Iterator[Fault]:
    """An address that is none, and a port that the stack itself needs there."""
    if spec.address is not None and not _is_address(spec.address):
        yield Fault(
            at=at("access.address"),
            found=repr(spec.address),
            allowed="an IPv4 address of this machine, such as 127.0.0.1 or 0.0.0.0",
            do="correct it, or remove it for an address of the stack's own",
        )
    elif spec.address == ANY and spec.port in PORTS_USED:
        taken = ", ".join(map(str, PORTS_USED))
        yield Fault(
            at=at("access.port"),
            beside=(at("access.address"),),
            found=f"{spec.port}, which processes of the stack listen on at such an address",
            allowed=f"1 to 65535 except {taken}",
            do="choose another",
        )


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True
