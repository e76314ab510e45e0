"""Machines of the pools on a rented cloud → their faults and advice."""

from collections.abc import Iterable, Iterator, Mapping
from typing import get_args

from infra.plan.facts import Facts
from infra.plan.fault import Fault
from infra.plan.machines import Machine, MachinePrice, machines_in, price_table
from infra.plan.names import Role
from infra.plan.settings import at, instead
from infra.plan.sizes import GIB, Need, host_need, replica_need, state_gib, training_need
from infra.plan.spec import PoolSpec, StackSpec
from runtime.limits import LEAVE_S

POOLS: tuple[Role, ...] = get_args(Role)
NAMED_MAX = 12  # choices that a message lists
IMAGE_ARCHITECTURE = "x86_64"  # of the images, and of the packages in the nodes' lock


def pool(spec: StackSpec, role: Role) -> PoolSpec:
    """The machines of a role."""
    pools: dict[Role, PoolSpec] = {
        "training": spec.pools.training,
        "replica": spec.pools.replica,
        "gateway": spec.pools.gateway,
    }
    return pools[role]


def cores(spec: StackSpec, role: Role, nodes: int, facts: Facts) -> int:
    """Cores that each of so many nodes has to itself, on the machine that is wanted most."""
    if spec.cluster.cloud == "local":
        return max(1, facts.cores // nodes)
    return _known(spec)[pool(spec, role).machines[0]].cpus


def pool_faults(spec: StackSpec) -> list[Fault]:
    """What a region, known by now, does not rent so, and machines that can't hold the model."""
    known = _known(spec)
    faults = [fault for role in POOLS for fault in _machine_faults(spec, role, known)]
    if not faults:
        faults = [
            *_training_faults(spec, known),
            *_replica_faults(spec, known),
            *_notice_faults(spec, known),
        ]
    return [
        *faults,
        *(fault for role in POOLS for fault in _capacity_faults(pool(spec, role), role)),
    ]


def pool_advice(spec: StackSpec) -> Iterator[str]:
    """What works, but costs more than it need."""
    known = _known(spec)
    for role in POOLS:
        best = known[pool(spec, role).machines[0]]
        if not best.devices:
            continue
        paid = f"{at(f'pools.{role}.machines')}: {best.devices} x {best.device} are paid for"
        if role != "training":
            yield f"{paid}, but a {role} computes on the CPU"
        elif spec.training.device == "cpu":
            yield f"{paid}, but training.device is cpu"
        elif best.devices > 1:
            yield f"{paid}, but a node uses the first"


def _known(spec: StackSpec) -> Mapping[str, Machine]:
    assert spec.cluster.region is not None, "refused before"
    return machines_in(spec.cluster.cloud, spec.cluster.region)


def _machine_faults(spec: StackSpec, role: Role, known: Mapping[str, Machine]) -> Iterator[Fault]:
    wanted, path = pool(spec, role), f"pools.{role}.machines"
    assert spec.cluster.region is not None, "refused before"
    prices = price_table(spec.cluster.cloud).regions[spec.cluster.region].machines
    for name in wanted.machines or ("",):
        if name not in known:
            yield Fault(
                at=at(path),
                beside=(at("cluster.region"),),
                found=f"{name}, which {spec.cluster.region} has not" if name else "none",
                allowed=_some(known),
                do=instead(name, known),
            )
            continue
        if known[name].architecture != IMAGE_ARCHITECTURE:
            yield Fault(
                at=at(path),
                found=f"{name}, which is {known[name].architecture}",
                allowed=f"{IMAGE_ARCHITECTURE}, as the image and its packages are",
                do="choose another",
            )
        yield from _offer_faults(wanted, role, name, known[name], prices[name])
        yield from _fabric_faults(wanted, role, name, known)


def _offer_faults(
    wanted: PoolSpec, role: Role, name: str, machine: Machine, offer: MachinePrice
) -> Iterator[Fault]:
    is_on_demand = offer.on_demand is not None and not machine.is_never_on_demand
    is_offered = {
        "on_demand": is_on_demand,
        "spot": offer.spot is not None,
        "mixed": is_on_demand and offer.spot is not None,
        "reservation": offer.on_demand is not None,
    }
    if not is_offered[wanted.capacity]:
        yield Fault(
            at=at(f"pools.{role}.capacity"),
            beside=(at(f"pools.{role}.machines"),),
            found=f"{wanted.capacity} for {name}, which is not rented so there",
            allowed=", ".join(how for how, there in is_offered.items() if there) or "nothing",
            do="choose one of these, or another machine",
        )


def _fabric_faults(
    wanted: PoolSpec, role: Role, name: str, known: Mapping[str, Machine]
) -> Iterator[Fault]:
    best = known.get(wanted.machines[0], known[name])
    if wanted.fabric and role != "training":
        yield Fault(
            at=at(f"pools.{role}.fabric"),
            found=f"true for a {role}, which takes part in no collective",
            allowed="false",
            do="remove it",
        )
    elif wanted.fabric and known[name].fabric == "none":
        having = (other for other, machine in known.items() if machine.fabric != "none")
        yield Fault(
            at=at(f"pools.{role}.fabric"),
            beside=(at(f"pools.{role}.machines"),),
            found=f"true for {name}, which has no network of its own for collectives",
            allowed=f"true for {_some(having)}",
            do="choose one of these, or remove it",
        )
    elif wanted.fabric and _cards(known[name]) != _cards(best):
        yield Fault(
            at=at(f"pools.{role}.machines"),
            beside=(at(f"pools.{role}.fabric"),),
            found=f"{name} beside {wanted.machines[0]}, whose network cards are others",
            allowed="machines with the same cards, since one template describes them",
            do="keep one kind",
        )


def _capacity_faults(wanted: PoolSpec, role: Role) -> Iterator[Fault]:
    is_reserved, path = wanted.capacity == "reservation", f"pools.{role}"
    if is_reserved and wanted.reservation is None:
        yield Fault(
            at=at(f"{path}.reservation"),
            beside=(at(f"{path}.capacity"),),
            found="nothing with capacity reservation",
            allowed="the id of a reservation that you have",
            do="add it; a stack never buys one",
        )
    if wanted.reservation is not None and not is_reserved:
        yield Fault(
            at=at(f"{path}.reservation"),
            beside=(at(f"{path}.capacity"),),
            found=f"{wanted.reservation} with capacity {wanted.capacity}",
            allowed="an id with capacity reservation alone",
            do="remove it, or set the capacity to reservation",
        )
    if is_reserved and len(wanted.machines) > 1:
        yield Fault(
            at=at(f"{path}.machines"),
            beside=(at(f"{path}.capacity"),),
            found=f"{len(wanted.machines)} with capacity reservation",
            allowed="the one that is reserved",
            do="remove the others",
        )


def _training_faults(spec: StackSpec, known: Mapping[str, Machine]) -> Iterator[Fault]:
    """Any machine of the list may come, so each must do."""
    training = spec.training
    is_gpu = training.device == "gpu"
    need = training_need(training, on_device=is_gpu)
    for name in spec.pools.training.machines:
        machine = known[name]
        if is_gpu and not machine.devices:
            yield Fault(
                at=at("pools.training.machines"),
                beside=(at("training.device"),),
                found=f"{name}, which has no GPU, with training.device gpu",
                allowed=_some(other for other, each in known.items() if each.devices),
                do="choose one of these, or leave the device out",
            )
        elif is_gpu:
            gib = machine.device_memory_gib
            yield from _memory_faults(name, gib, f"on its {machine.device}", need, "training")
        host = host_need(training) if is_gpu else need
        yield from _memory_faults(name, machine.memory_gib, "of memory", host, "training")


def _replica_faults(spec: StackSpec, known: Mapping[str, Machine]) -> Iterator[Fault]:
    need = replica_need(spec.training.model)
    for name in spec.pools.replica.machines:
        yield from _memory_faults(name, known[name].memory_gib, "of memory", need, "replica")


def _memory_faults(name: str, gib: float, where: str, need: Need, role: Role) -> Iterator[Fault]:
    if gib < need.gib:
        yield Fault(
            at=at(f"pools.{role}.machines"),
            beside=(at("training.model"), at("training.micro_batch")),
            found=f"{name} with {gib:g} GiB {where}",
            allowed=f"{need.gib:.1f} GiB or more: {need.why}",
            do="choose a larger one, or a smaller model or training.micro_batch",
        )


def _notice_faults(spec: StackSpec, known: Mapping[str, Machine]) -> Iterator[Fault]:
    """A spot node that alone has the state, and would be gone before it is saved."""
    wanted, gib = spec.pools.training, state_gib(spec.training.model)
    if wanted.capacity != "spot" or spec.training.nodes > 1:
        return
    for name in wanted.machines:
        gbps = known[name].network_gbps
        save_s = gib * GIB * 8 / (gbps * 1e9)
        if save_s > LEAVE_S:
            yield Fault(
                at=at("pools.training.capacity"),
                beside=(at("training.nodes"), at("training.model")),
                found=f"spot for a single node, which has {LEAVE_S:g} s to leave after a notice",
                allowed=f"on_demand, or two nodes: a checkpoint of {gib:.1f} GiB takes "
                f"{save_s:.0f} s at the {gbps:g} Gb/s of {name}",
                do="choose one of these",
            )


def _some(names: Iterable[str]) -> str:
    known = list(names)
    more = len(known) - NAMED_MAX
    return ", ".join(known[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


def _cards(machine: Machine) -> tuple[object, ...]:
    return machine.fabric, machine.fabric_cards, machine.fabric_first_card
