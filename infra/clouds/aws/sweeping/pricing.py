"""What a thing that was found costs by the hour, from the price tables. Pure.

None: not in the tables, or paid by what is used of it. Of spot nodes the highest zone's price.
"""

from infra.clouds.aws.sweeping.api import Row
from infra.plan.machines import RegionPrices, price_table
from infra.plan.money import HOURS_A_MONTH

FREE = {
    "autoscaling-group",
    "budget",
    "certificate",
    "instance-profile",
    "internet-gateway",
    "launch-template",
    "placement-group",
    "role",
    "route-table",
    "schedule-group",
    "security-group",
    "subnet",
    "target-group",
    "topic",
    "vpc",
}
PAID_STATES = {"pending", "running"}  # of an instance
DISK = "gp3"  # the one that `disk_gib_month` is the price of
SPOT = "/spot"  # after the type of an instance that was rented as spot


def usd_per_hour(kind: str, row: Row, region: str) -> float | None:
    """The list price of one thing."""
    if kind in FREE:
        return 0.0
    prices = price_table("aws").regions.get(region)
    return None if prices is None else _usd(kind, row, prices)


def _usd(kind: str, row: Row, prices: RegionPrices) -> float | None:
    match kind:
        case "instance":
            return _machine_usd(row, prices) if row.state in PAID_STATES else 0.0
        case "volume":
            a_month = _times(prices.disk_gib_month, row.count) if row.type == DISK else None
            return None if a_month is None else a_month / HOURS_A_MONTH
        case "nat-gateway":
            return prices.nat_hour
        case "address":
            return prices.address_hour
        case "network-interface":
            return prices.address_hour if row.type == "public" else 0.0
        case "balancer":
            return prices.balancer_hour if row.type == "application" else None
        case "vpc-endpoint":
            is_link = row.type == "Interface"
            return _times(prices.endpoint_zone_hour, row.count) if is_link else 0.0
    return None


def _machine_usd(row: Row, prices: RegionPrices) -> float | None:
    machine, spot, _ = (row.type or "").partition(SPOT)
    known = prices.machines.get(machine)
    if known is None:
        return None
    if spot:
        return None if known.spot is None else known.spot[1]
    return known.on_demand


def _times(price: float | None, count: int | None) -> float | None:
    return None if price is None or count is None else price * count
