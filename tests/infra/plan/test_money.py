"""Prices are those of the tables, added up as one would by hand; what nobody knows is no zero."""

from collections.abc import Mapping

import pytest

from infra.config import read_spec
from infra.plan.machines import RENTED, RegionPrices, machine_table, price_table
from infra.plan.money import Price, Unpriced, node_usd, price, told
from infra.plan.sizes import parameters, state_gib
from infra.plan.spec import CloudName, PoolSpec
from runtime.model.decoder import Decoder, DecoderShape
from runtime.node_spec import ModelSpec

REGION = RegionPrices.model_validate(
    {
        "machines": {
            "small": {"on_demand": 1.0, "spot": [0.25, 0.5]},
            "other": {"on_demand": 2.0, "spot": [0.1, 0.2]},
            "scarce": {"spot": [3.0, 4.0]},
            "steady": {"on_demand": 5.0},
        }
    }
)


@pytest.mark.parametrize(
    ("capacity", "machines", "usd"),
    [
        ("on_demand", ["small"], (4.0, 4.0)),
        ("reservation", ["small"], (4.0, 4.0)),
        ("spot", ["small"], (1.0, 2.0)),
        ("mixed", ["small"], (1.75, 2.5)),  # one at 1.0, three at 0.25 to 0.5
        ("spot", ["small", "other"], (0.4, 2.0)),  # whichever comes
        ("spot", ["scarce"], (12.0, 16.0)),
    ],
)
def test_four_nodes_cost_four_times_one(
    capacity: str, machines: list[str], usd: tuple[float, float]
) -> None:
    pool = PoolSpec.model_validate({"machines": machines, "capacity": capacity})

    assert node_usd(pool, REGION, 4) == pytest.approx(usd)


@pytest.mark.parametrize(
    ("capacity", "machine"),
    [("on_demand", "scarce"), ("mixed", "scarce"), ("spot", "steady"), ("mixed", "steady")],
)
def test_a_price_that_is_not_known_is_not_zero(capacity: str, machine: str) -> None:
    pool = PoolSpec.model_validate({"machines": [machine], "capacity": capacity})

    with pytest.raises(Unpriced, match=machine):
        node_usd(pool, REGION, 1)


def stack(**parts: object) -> Price:
    """The price of a small stack on AWS."""
    machines = {"machines": ["m7i.large"]}
    config: Mapping[str, object] = {
        "cluster": {
            "cloud": "aws",
            "region": "us-east-1",
            "zones": ["us-east-1a", "us-east-1b"],
        },
        "pools": {"training": machines, "replica": machines, "gateway": machines},
    }
    spec, faults = read_spec({f"atoll:{key}": value for key, value in {**config, **parts}.items()})
    assert not faults
    return price(spec)


def test_a_stack_costs_what_its_parts_cost_by_hand() -> None:
    """At rest two replicas, two gateways; training has two nodes for at most 10 hours."""
    table = price_table("aws").regions["us-east-1"]
    large = table.machines["m7i.large"].on_demand
    assert large is not None
    assert None not in (table.disk_gib_month, table.nat_hour, table.nat_gib, table.address_hour)

    found = stack(budget={"run_hours": 10})

    usd = {cost.part: cost.high_usd for cost in found.costs}
    assert usd["replica nodes"] == usd["gateway nodes"] == pytest.approx(2 * large)
    assert usd["replica disks"] == pytest.approx(2 * 60 * (table.disk_gib_month or 0) / 730)
    assert usd["address translation"] == pytest.approx(2 * (table.nat_hour or 0))
    assert usd["public addresses"] == pytest.approx(4 * (table.address_hour or 0))
    always = sum(cost.high_usd for cost in found.costs if cost.per == "hour")
    assert found.usd_per_hour(is_training=False)[1] == pytest.approx(always)
    disks = 2 * 60 * (table.disk_gib_month or 0) / 730
    assert found.usd_per_hour(is_training=True)[1] == pytest.approx(always + 2 * large + disks)
    downloads = 2 * 4 * (table.nat_gib or 0)
    assert found.usd_per_run[1] == pytest.approx(10 * (2 * large + disks) + downloads)
    assert f"{price_table('aws').date:%Y-%m-%d}" in found.note


def test_private_nodes_pay_for_no_translation() -> None:
    cluster = {"cloud": "aws", "region": "us-east-1", "egress": "private"}
    parts = [cost.part for cost in stack(cluster=cluster | {"zones": ["a", "b"]}).costs]

    assert "address translation" not in parts
    assert "training downloads" not in parts


@pytest.mark.parametrize("cloud", RENTED)
def test_the_tables_agree_and_say_where_they_are_from(cloud: CloudName) -> None:
    machines, prices = machine_table(cloud), price_table(cloud)

    assert machines.source
    assert prices.source
    assert len(prices.regions) >= 5
    for name, region in prices.regions.items():
        assert region.machines, name
        assert set(region.machines) <= set(machines.machines), name
        for machine, offer in region.machines.items():
            assert offer.on_demand or offer.spot, (name, machine)
            if offer.spot:
                assert 0 < offer.spot[0] <= offer.spot[1], (name, machine)
    for name, hardware in machines.machines.items():
        assert (hardware.devices > 0) == (hardware.device is not None), name
        assert (hardware.devices > 0) == (hardware.device_memory_gib > 0), name
        assert (hardware.fabric == "none") == (hardware.fabric_gbps is None), name


@pytest.mark.parametrize(
    "model",
    [
        ModelSpec(),
        ModelSpec(vocabulary=300, width=32, layers=1, heads=2, kv_heads=1, hidden=64, context=64),
        ModelSpec(width=96, layers=3, heads=6, kv_heads=2, hidden=200),
    ],
)
def test_parameters_are_counted_as_pytorch_has_them(model: ModelSpec) -> None:
    decoder = Decoder(DecoderShape(**model.model_dump()))

    assert parameters(model) == sum(p.numel() for p in decoder.parameters())
    assert state_gib(model) == parameters(model) * 12 / 2**30


def test_a_range_is_told_as_one_only_where_it_is_seen() -> None:
    assert told((1.0, 2.5)) == "1.00 to 2.50"
    assert told((1234.567, 1234.568)) == "1,234.57"
    assert told((0.0004, 0.5)) == "0.0004 to 0.5000"
    assert told((0.00001, 0.00001)) == "under 0.0001"
