"""Where a stack stands → its faults: region, zones, egress; none of them on one's own machine."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from infra.plan.fault import Fault
from infra.plan.machines import price_table
from infra.plan.settings import at, instead
from infra.plan.spec import CloudName, ClusterSpec, Part, StackSpec

ZONES_MIN: dict[CloudName, int] = {"aws": 2, "gcp": 1, "azure": 1}  # ALB stands in two
AZURE_ZONES = ("1", "2", "3")
RENTED_ONLY = ("region", "zones", "egress")
UNREACHABLE: Mapping[CloudName, str] = {
    "aws": "what they install at their first start",
    "azure": "the service that sizes their pool",
}
RENTED_BUDGET = ("max_usd_per_month", "alert_emails")  # the cloud counts, and warns


def region_faults(spec: StackSpec) -> Iterator[Fault]:
    """A place that there is not, or that can't hold a stack."""
    cluster = spec.cluster
    if cluster.cloud == "local":
        yield from own_machine_faults(cluster, "cluster", RENTED_ONLY)
        yield from own_machine_faults(spec.pools, "pools", type(spec.pools).model_fields)
        yield from own_machine_faults(spec.budget, "budget", RENTED_BUDGET)
        return
    if has_region(cluster):
        yield from _zone_faults(cluster)
    else:
        regions = price_table(cluster.cloud).regions
        yield Fault(
            at=at("cluster.region"),
            beside=(at("cluster.cloud"),),
            found=cluster.region or "nothing",
            allowed=", ".join(regions),
            do=instead(cluster.region or "", regions),
        )
    if cluster.egress == "private" and cluster.cloud in UNREACHABLE:
        yield Fault(
            at=at("cluster.egress"),
            beside=(at("cluster.cloud"),),
            found=f"private on {cluster.cloud}, where nodes could not reach "
            f"{UNREACHABLE[cluster.cloud]}",
            allowed="nat",
            do="remove it",
        )


def has_region(spec: ClusterSpec) -> bool:
    """Whether the cloud has this region, as far as prices are known."""
    return spec.region in price_table(spec.cloud).regions


def misplaced(part: Part, above: str, names: Iterable[str], found: str, do: str) -> Iterator[Fault]:
    """Settings of a part that were made although they mean nothing on this cloud."""
    blank = type(part)()
    for name in names:
        if getattr(part, name) != getattr(blank, name):
            yield Fault(
                at=at(f"{above}.{name}"),
                beside=(at("cluster.cloud"),),
                found=found.format(getattr(part, name)),
                allowed="nothing",
                do=do,
            )


def own_machine_faults(part: Part, above: str, names: Iterable[str]) -> Iterator[Fault]:
    """Settings of rented clouds where nothing is rented."""
    found = "a setting of rented clouds on this machine"
    yield from misplaced(part, above, names, found, "remove it, or name a rented cloud")


def _zone_faults(spec: ClusterSpec) -> Iterator[Fault]:
    zones, least = spec.zones, ZONES_MIN[spec.cloud]
    allowed = f"{least} or more different ones of {spec.region}, such as {_example(spec)}"
    wrong = [zone for zone in zones if not _is_zone(zone, spec)]
    if wrong or len(set(zones)) < max(least, len(zones)):
        yield Fault(
            at=at("cluster.zones"),
            beside=(at("cluster.region"),),
            found=_listed(wrong or zones),
            allowed=allowed,
            do="correct them" if zones else "add them",
        )


def _listed(zones: Sequence[str]) -> str:
    return ", ".join(zones) or "none"


def _example(spec: ClusterSpec) -> str:
    if spec.cloud == "azure":
        return AZURE_ZONES[0]
    return f"{spec.region}-a" if spec.cloud == "gcp" else f"{spec.region}a"


def _is_zone(zone: str, spec: ClusterSpec) -> bool:
    """By its form: which ones a region has is the account's to say."""
    if spec.cloud == "azure":
        return zone in AZURE_ZONES
    example = _example(spec)
    return len(zone) == len(example) and zone[:-1] == example[:-1] and "a" <= zone[-1] <= "z"
