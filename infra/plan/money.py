"""What a stack costs, by part, from dated list prices. An unknown price is a fault, never 0.

Without taxes, discounts and what clients fetch. Assumptions stand in each line's words.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from infra.plan.machines import RegionPrices, price_table
from infra.plan.names import Role
from infra.plan.pools import pool
from infra.plan.sizes import state_gib, weights_gib
from infra.plan.spec import PoolSpec, StackSpec

HOURS_A_MONTH = 730
LOG_GIB_NODE_DAY = 0.05  # a line per step and request, and the system's own
PACKAGES_GIB = 4.0  # what a node with a GPU build of PyTorch fetches at its first start
CHECKPOINTS_KEPT = 3  # the last two, and one being written
VERSIONS_KEPT = 10  # of the model
LEAST_TOLD_USD = 0.0001
# Services of AWS that nodes ask: three of Session Manager, logs, metrics, pool size, secrets.
PRIVATE_LINKS = 7

Per = Literal["hour", "run hour", "run"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """One part, in US dollars. Spot prices have a range."""

    part: str
    what: str
    low_usd: float
    high_usd: float
    per: Per


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """All parts, and where the prices are from."""

    costs: tuple[Cost, ...]
    run_hours: float
    note: str

    def usd_per_hour(self, *, is_training: bool) -> tuple[float, float]:
        """Lowest and highest, at rest or while a run goes on."""
        return self._sum("hour", *(("run hour",) if is_training else ()))

    @property
    def usd_per_run(self) -> tuple[float, float]:
        """What the longest run adds."""
        (low, high), (low_once, high_once) = self._sum("run hour"), self._sum("run")
        return low * self.run_hours + low_once, high * self.run_hours + high_once

    def _sum(self, *pers: Per) -> tuple[float, float]:
        costs = [cost for cost in self.costs if cost.per in pers]
        return sum(cost.low_usd for cost in costs), sum(cost.high_usd for cost in costs)


class Unpriced(Exception):
    """A part whose price nobody has told; says which."""


def price(spec: StackSpec) -> Price:
    """The price of a stack whose machines are known in its region; raises Unpriced."""
    cloud, region = spec.cluster.cloud, spec.cluster.region
    if cloud == "local":
        note = "your own machine: nothing is rented"
        return Price(costs=(), run_hours=spec.budget.run_hours, note=note)
    assert region is not None, "refused before"
    table = price_table(cloud)
    prices = table.regions[region]
    return Price(
        costs=tuple(_costs(spec, prices)),
        run_hours=spec.budget.run_hours,
        note=f"list prices of {table.date:%Y-%m-%d} in {region}, without taxes and discounts; what "
        f"clients fetch costs {_known(prices.egress_gib, 'what clients fetch'):g} per GiB besides",
    )


def node_usd(wanted: PoolSpec, prices: RegionPrices, count: int) -> tuple[float, float]:
    """Lowest and highest price of a pool's nodes per hour, whichever of its machines they are."""
    options = [_machine_usd(wanted, prices, name, count) for name in wanted.machines]
    return min(low for low, _ in options), max(high for _, high in options)


def _machine_usd(
    wanted: PoolSpec, prices: RegionPrices, name: str, count: int
) -> tuple[float, float]:
    known = prices.machines[name]
    on_demand, spot = known.on_demand, known.spot
    if wanted.capacity != "spot" and on_demand is None:
        raise Unpriced(f"{name} on demand")
    if wanted.capacity in ("spot", "mixed") and spot is None:
        raise Unpriced(f"{name} as spot")
    of_spot = {"spot": count, "mixed": count - 1}.get(wanted.capacity, 0)
    fixed = (count - of_spot) * (on_demand or 0.0)
    low, high = spot or (0.0, 0.0)
    return fixed + of_spot * low, fixed + of_spot * high


def _costs(spec: StackSpec, prices: RegionPrices) -> Iterator[Cost]:
    yield from _pool(spec, prices, "replica", spec.serving.replicas, "hour")
    yield from _pool(spec, prices, "gateway", spec.serving.gateways, "hour")
    yield from _network(spec, prices)
    yield from _kept(spec, prices)
    yield from _pool(spec, prices, "training", spec.training.nodes, "run hour")
    nodes = spec.training.nodes
    if spec.cluster.egress == "nat":
        usd = nodes * PACKAGES_GIB * _known(prices.nat_gib, "address translation per GiB")
        what = f"{nodes} x {PACKAGES_GIB:g} GiB of packages at the start of a run"
        yield _cost("training downloads", what, usd, "run")


def _pool(
    spec: StackSpec, prices: RegionPrices, role: Role, count: int, per: Per
) -> Iterator[Cost]:
    wanted = pool(spec, role)
    low, high = node_usd(wanted, prices, count)
    capacity = wanted.capacity.replace("_", " ")
    yield Cost(
        part=f"{role} nodes",
        what=f"{count} x {' or '.join(wanted.machines)}, {capacity}",
        low_usd=low,
        high_usd=high,
        per=per,
    )
    usd = count * wanted.disk_gib * _known(prices.disk_gib_month, "disks") / HOURS_A_MONTH
    yield _cost(f"{role} disks", f"{count} x {wanted.disk_gib} GiB", usd, per)


def _network(spec: StackSpec, prices: RegionPrices) -> Iterator[Cost]:
    cloud, zones = spec.cluster.cloud, len(spec.cluster.zones)
    usd = _known(prices.balancer_hour, "the balancer")
    if cloud != "gcp":  # which counts what goes through it alone
        usd += _known(prices.balancer_unit_hour, "a unit of the balancer")
    yield _cost("balancer", "one, with little to do", usd, "hour")
    gateways = 0
    if spec.cluster.egress == "nat":
        gateways = zones if cloud == "aws" else 1
        yield _cost("address translation", f"{gateways} of it", _nat_usd(spec, prices), "hour")
    elif cloud == "aws":
        links = PRIVATE_LINKS * zones
        usd = links * _known(prices.endpoint_zone_hour, "private links")
        yield _cost("private links", f"{PRIVATE_LINKS} services in {zones} zones", usd, "hour")
    addresses = gateways + (zones if cloud == "aws" else 1)
    usd = addresses * _known(prices.address_hour, "public addresses")
    yield _cost("public addresses", f"{addresses} of them", usd, "hour")


def _nat_usd(spec: StackSpec, prices: RegionPrices) -> float:
    usd = _known(prices.nat_hour, "address translation")
    if spec.cluster.cloud == "aws":
        return len(spec.cluster.zones) * usd
    if prices.nat_node_hour is not None:
        return min(usd, (spec.serving.replicas + spec.serving.gateways) * prices.nat_node_hour)
    return usd


def _kept(spec: StackSpec, prices: RegionPrices) -> Iterator[Cost]:
    nodes = spec.serving.replicas + spec.serving.gateways
    usd = nodes * LOG_GIB_NODE_DAY / 24 * _known(prices.log_gib, "logs")
    yield _cost("logs", f"{nodes} nodes, assumed {LOG_GIB_NODE_DAY} GiB a day each", usd, "hour")
    model = spec.training.model
    gib = CHECKPOINTS_KEPT * state_gib(model) + VERSIONS_KEPT * weights_gib(model)
    usd = gib * _known(prices.store_gib_month, "stores") / HOURS_A_MONTH
    what = f"{gib:.1f} GiB: {CHECKPOINTS_KEPT} checkpoints, {VERSIONS_KEPT} model versions"
    yield _cost("stores", what, usd, "hour")


def _cost(part: str, what: str, usd: float, per: Per) -> Cost:
    return Cost(part=part, what=what, low_usd=usd, high_usd=usd, per=per)


def _known(usd: float | None, what: str) -> float:
    if usd is None:
        raise Unpriced(what)
    return usd


def receipt(price: Price) -> list[str]:
    """Parts and sums as lines of plain text in columns; none where nothing is rented."""
    if not price.costs:
        return []
    rows = [
        (cost.part, cost.what, told((cost.low_usd, cost.high_usd)), f"USD per {cost.per}")
        for cost in price.costs
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    at_rest, training = (price.usd_per_hour(is_training=busy)[1] for busy in (False, True))
    most = told_most(training, price.usd_per_run[1])
    return [*lines, most, f"price {at_rest:.2f} USD per hour: {price.note}"]


def told_most(usd_per_hour: float, usd_per_run: float) -> str:
    """What training comes to, in a sentence."""
    return (
        f"at most {usd_per_hour:.2f} USD per hour while it trains, and "
        f"{usd_per_run:.2f} USD for a run"
    )


def told(usd: tuple[float, float]) -> str:
    """A price or a range, as people read it: what costs little does not look like nothing."""
    low, high = map(_told, usd)
    return high if low == high else f"{low} to {high}"


def _told(usd: float) -> str:
    if 0 < usd < LEAST_TOLD_USD:
        return f"under {LEAST_TOLD_USD}"
    return f"{usd:,.2f}" if usd >= 1 else f"{usd:.4f}"
