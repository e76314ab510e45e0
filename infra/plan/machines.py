"""Machine types that a stack file may name, and their list prices: two tables per rented cloud.

The tables say where and when they were read. A machine is known in a region if it has a price
there: what nobody can price, nobody may rent.
"""

from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

import yaml
from pydantic import Field

from infra.plan.spec import CloudName, Part

Architecture = Literal["x86_64", "arm64"]
Fabric = Literal["none", "efa", "tcpx", "tcpxo", "rdma", "infiniband"]
RENTED: tuple[CloudName, ...] = ("aws", "gcp", "azure")
FOLDER = Path(__file__).parent


class Machine(Part):
    """Hardware of one machine type."""

    cpus: int = Field(gt=0, description="Virtual CPUs.")
    memory_gib: float = Field(gt=0)
    architecture: Architecture
    device: str | None = Field(default=None, description="GPU model.")
    devices: int = Field(default=0, ge=0)
    device_memory_gib: float = Field(default=0, ge=0, description="Of one device, as marketed.")
    driver: Literal["cuda", "grid"] = "cuda"
    network_gbps: float = Field(gt=0, description="To other nodes, at most.")
    fabric: Fabric = Field(default="none", description="Network beside it for collectives.")
    fabric_gbps: float | None = None
    fabric_cards: int | None = Field(default=None, description="Network cards that carry it.")
    fabric_first_card: int = Field(default=0, ge=0, description="Cards before it carry none.")
    local_disk_gb: float = Field(default=0, ge=0, description="Comes with it, gone with it.")
    is_never_on_demand: bool = Field(
        default=False, description="Then its price on demand is that of a reservation."
    )


class MachinePrice(Part):
    """US dollars per hour, Linux, no commitment."""

    on_demand: float | None = Field(default=None, gt=0)
    spot: tuple[float, float] | None = Field(default=None, description="Lowest, highest zone.")


class RegionPrices(Part):
    """List prices of one region, in US dollars; None is not known, never free."""

    machines: Mapping[str, MachinePrice]
    disk_gib_month: float | None = Field(default=None, description="General purpose SSD.")
    nat_hour: float | None = Field(default=None, description="A gateway, or all of them at most.")
    nat_node_hour: float | None = Field(default=None, description="A node that uses it.")
    nat_gib: float | None = None
    balancer_hour: float | None = None
    balancer_unit_hour: float | None = Field(default=None, description="A unit of its capacity.")
    address_hour: float | None = Field(default=None, description="A public IPv4 address.")
    endpoint_zone_hour: float | None = Field(default=None, description="A link to one service.")
    log_gib: float | None = None
    store_gib_month: float | None = None
    egress_gib: float | None = Field(default=None, description="To the internet, first tier.")


class MachineTable(Part):
    """`machines/<cloud>.yaml`."""

    source: str
    machines: Mapping[str, Machine]


class PriceTable(Part):
    """`prices/<cloud>.yaml`."""

    date: date
    source: str
    regions: Mapping[str, RegionPrices]


TableT = TypeVar("TableT", bound=Part)


@cache
def machine_table(cloud: CloudName) -> MachineTable:
    """The hardware of a rented cloud."""
    return _read("machines", cloud, MachineTable)


@cache
def price_table(cloud: CloudName) -> PriceTable:
    """The list prices of a rented cloud."""
    return _read("prices", cloud, PriceTable)


def machines_in(cloud: CloudName, region: str) -> Mapping[str, Machine]:
    """Machine types that a region has; empty for a region that is not in the table."""
    prices = price_table(cloud).regions.get(region)
    known = machine_table(cloud).machines
    return {name: known[name] for name in prices.machines} if prices else {}


def _read(kind: str, cloud: CloudName, table: type[TableT]) -> TableT:
    return table.model_validate(yaml.safe_load((FOLDER / kind / f"{cloud}.yaml").read_text()))
