"""EFA: the network cards of a machine that carry collectives.

EC2 User Guide, "Elastic Fabric Adapter" and "Maximize network bandwidth with multiple network
cards" (read 2026-11): the first interface is number 0 of card 0, each other is number 1 of its own
card; a card that only carries EFA needs no address.
"""

import pulumi_aws as aws
from pulumi import Input

from infra.plan.machines import Machine, machine_table
from infra.plan.plan import PoolPlan

Cards = list[aws.ec2.LaunchTemplateNetworkInterfaceArgs]


def fabric_cards(plan: PoolPlan, group: Input[str]) -> Cards | None:
    """The interfaces of a pool's machines; None where it takes part in no such network."""
    if not plan.rented.fabric:
        return None
    machine = machine_table("aws").machines[plan.rented.machines[0]]
    return [
        aws.ec2.LaunchTemplateNetworkInterfaceArgs(
            network_card_index=card,
            device_index=0 if card == 0 else 1,
            interface_type=kind,
            security_groups=[group],
            associate_public_ip_address="false",
            delete_on_termination="true",
        )
        for card, kind in card_kinds(machine)
    ]


def card_kinds(machine: Machine) -> list[tuple[int, str]]:
    """Cards by number, and what each carries. The first has an address, whatever it carries."""
    first = machine.fabric_first_card
    carrying = range(first, first + (machine.fabric_cards or 0))
    head = (0, "efa" if first == 0 else "interface")
    return [head, *((card, "efa-only") for card in carrying if card > 0)]
