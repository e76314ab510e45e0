"""Network cards of machines that take part in EFA."""

import pytest

from infra.clouds.aws.fabric import card_kinds
from infra.plan.machines import machine_table


@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        ("g6.12xlarge", 1, "efa"),
        ("p4d.24xlarge", 4, "efa"),
        ("p5.48xlarge", 32, "efa"),
        ("p6-b300.48xlarge", 17, "interface"),  # its first card is a plain one
    ],
)
def test_each_card_that_carries_efa_is_used_once(name: str, count: int, first: str) -> None:
    machine = machine_table("aws").machines[name]

    kinds = card_kinds(machine)

    assert [card for card, _ in kinds] == list(range(count))
    assert [kind for _, kind in kinds] == [first, *["efa-only"] * (count - 1)]
    assert sum(kind != "interface" for _, kind in kinds) == machine.fabric_cards
