"""What an account has in a region already, beside the stack that is looked at.

Asked once, when it is first needed; raises AtollError where nobody can tell.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from infra.clouds.aws.quotas import ON_DEMAND, Quota, vcpu_quota
from infra.clouds.aws.sweeping.api import Api, Row
from infra.clouds.aws.tags import TAG_ID
from infra.plan.machines import machine_table

TYPES_PER_CALL = 100
STANDING = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
NAT_STATES = [{"Name": "state", "Values": ["pending", "available", "deleting"]}]
ID_TAG = f"Tags[?Key=='{TAG_ID}']|[0].Value"
ThingT = TypeVar("ThingT", "Machine", "Thing")


class Thing(BaseModel):
    """One thing that a quota counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stack_id: str | None  # None: no stack of the kit's
    subnet: str | None = None


class Machine(BaseModel):
    """An instance that runs or is about to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str
    lifecycle: str | None  # None: on demand
    reservation: str | None
    stack_id: str | None


class Reservation(BaseModel):
    """A reservation of capacity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    state: str
    type: str
    zone: str
    total: int
    free: int
    kind: str | None = None  # `default`, or `capacity-block`, which counts against no quota


class Used:
    """By everybody but the stack's own ids."""

    def __init__(self, api: Api, own: Collection[str]) -> None:
        self._api = api
        self._own = frozenset(own)

    def vcpus(self, quota: Quota) -> int:
        """Of a quota of machines. A reservation is in use as a whole, whoever fills it."""
        reserved = self._reserved() if quota in ON_DEMAND else []
        inside = {one.id for one in reserved}
        held = Counter(
            machine.type
            for machine in self._others(self._machines)
            if _quota_of(machine) == quota and machine.reservation not in inside
        )
        for one in reserved:
            if vcpu_quota(one.type, is_spot=False) == quota:
                held[one.type] += one.total
        cpus = self._cpus(sorted(held))
        return sum(cpus[name] * count for name, count in held.items())

    def addresses(self) -> int:
        """Elastic IPs."""
        cut = f"Addresses[].{{stack_id: {ID_TAG}}}"
        return len(self._others(self._api.shapes(Thing, "ec2", "describe_addresses", cut)))

    def networks(self) -> int:
        """VPCs."""
        cut = f"Vpcs[].{{stack_id: {ID_TAG}}}"
        return len(self._others(self._api.shapes(Thing, "ec2", "describe_vpcs", cut)))

    def translations(self, zones: Iterable[str]) -> int:
        """NAT gateways, going ones too, in the one of these zones that has most."""
        cut = f"NatGateways[].{{subnet: SubnetId, stack_id: {ID_TAG}}}"
        found = self._others(
            self._api.shapes(Thing, "ec2", "describe_nat_gateways", cut, Filter=NAT_STATES)
        )
        cut = "Subnets[].{id: SubnetId, holder: AvailabilityZone}"
        rows = self._api.rows("ec2", "describe_subnets", cut) if found else ()
        zone_of = {row.id: row.holder for row in rows}
        used = Counter(zone_of.get(one.subnet or "") for one in found)
        return max(used[zone] for zone in zones)

    def own_in(self, reservation: str) -> int:
        """Nodes of the stack itself that a reservation holds."""
        return sum(
            machine.reservation == reservation and machine.stack_id in self._own
            for machine in self._machines
        )

    @cached_property
    def reservations(self) -> Sequence[Reservation]:
        """All that the account has or is lent."""
        return self._api.shapes(
            Reservation,
            "ec2",
            "describe_capacity_reservations",
            "CapacityReservations[].{id: CapacityReservationId, state: State, type: InstanceType, "
            "zone: AvailabilityZone, total: TotalInstanceCount, free: AvailableInstanceCount, "
            "kind: ReservationType}",
        )

    @cached_property
    def _machines(self) -> Sequence[Machine]:
        return self._api.shapes(
            Machine,
            "ec2",
            "describe_instances",
            "Reservations[].Instances[].{type: InstanceType, lifecycle: InstanceLifecycle, "
            f"reservation: CapacityReservationId, stack_id: {ID_TAG}}}",
            Filters=STANDING,
        )

    def _others(self, things: Iterable[ThingT]) -> list[ThingT]:
        return [thing for thing in things if thing.stack_id not in self._own]

    def _reserved(self) -> list[Reservation]:
        """Those that count against a quota."""
        return [
            one
            for one in self.reservations
            if one.state == "active" and one.kind in (None, "default")
        ]

    def _cpus(self, types: Sequence[str]) -> Mapping[str, int]:
        """Of machine types: from our table, or AWS is asked."""
        known = machine_table("aws").machines
        unknown = [name for name in types if name not in known]
        rows: list[Row] = []
        for start in range(0, len(unknown), TYPES_PER_CALL):
            rows += self._api.rows(
                "ec2",
                "describe_instance_types",
                "InstanceTypes[].{id: InstanceType, count: VCpuInfo.DefaultVCpus}",
                InstanceTypes=unknown[start : start + TYPES_PER_CALL],
            )
        asked = {row.id: row.count or 0 for row in rows}
        return {name: known[name].cpus if name in known else asked[name] for name in types}


def _quota_of(machine: Machine) -> Quota | None:
    """None of machines of a capacity block, and of families that the kit never rents."""
    if machine.lifecycle not in (None, "spot"):
        return None
    return vcpu_quota(machine.type, is_spot=machine.lifecycle == "spot")
