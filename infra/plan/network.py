"""Access spec → the balancer's part of the plan, and its faults."""

from dataclasses import dataclass
from ipaddress import ip_address

from infra.plan.fault import Fault
from infra.plan.spec import AccessSpec

AT = "atoll:access"


@dataclass(frozen=True, kw_only=True, slots=True)
class BalancerPlan:
    """Where the balancer listens."""

    port: int
    address: str | None  # None: an address of the stack's own


def balancer_plan(spec: AccessSpec) -> BalancerPlan:
    """The one endpoint."""
    return BalancerPlan(port=spec.port, address=spec.address)


def network_faults(spec: AccessSpec) -> list[Fault]:
    """An address that is none."""
    if spec.address is None:
        return []
    try:
        ip_address(spec.address)
    except ValueError:
        return [
            Fault(
                at=f"{AT}.address",
                found=repr(spec.address),
                allowed="an IP address of this machine, such as 127.0.0.1 or 0.0.0.0",
                do="correct it, or remove it for an address of the stack's own",
            )
        ]
    return []
