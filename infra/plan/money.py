"""What a stack costs per hour. An unknown price is a fault, never 0."""

from dataclasses import dataclass

from infra.plan.spec import ClusterSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """In US dollars, with the reason for the figure."""

    per_hour_usd: float
    note: str


def price(spec: ClusterSpec) -> Price | None:
    """The price of the stack, or None where nobody knows it."""
    if spec.cloud == "local":
        return Price(per_hour_usd=0.0, note="your own machine: nothing is rented")
    return None
