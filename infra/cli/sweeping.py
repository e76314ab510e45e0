"""`atoll sweep`: what a stack has left, found without Pulumi's state."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.checkout import StackMarker
from infra.cli.screen import BAD, GOOD, Screen
from infra.cli.shapes import ItemShape, SweepShape
from infra.cli.stack import stack_markers
from infra.clouds import standing
from infra.clouds.leftovers import Item, SweepReport
from infra.clouds.local import sweep as local
from infra.plan.money import told
from runtime.errors import Refused

STACK_ID = re.compile("[0-9a-f]{8,16}")  # shorter ones would begin others', too
REGION = re.compile("[a-z0-9-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rest:
    """What is there of a stack under all its ids."""

    parts: tuple[tuple[StackMarker, SweepReport], ...]

    @property
    def left(self) -> tuple[Item, ...]:
        """Each thing once: two ids may share a port."""
        return tuple(dict.fromkeys(item for _, report in self.parts for item in report.left))

    @property
    def kept(self) -> tuple[Item, ...]:
        """The same of what shall stay."""
        return tuple(dict.fromkeys(item for _, report in self.parts for item in report.kept))

    @property
    def usd_per_hour(self) -> float:
        """List price of what is left, as far as it is known."""
        return sum(item.usd_per_hour or 0.0 for item in self.left)


def named(
    home: Path, stack: str, cloud: str | None, region: str | None, stack_id: str | None
) -> Callable[[], Rest]:
    """What looks for a stack: by the markers that it has left here, or as it is told.

    Raises Refused for words that name no stack.
    """
    told_of = _rented(home, stack, cloud, region, stack_id)
    if told_of is not None:
        return lambda: Rest(parts=((told_of, standing.sweep(told_of)),))
    known = stack_markers(home, stack)
    return lambda: look_for_rest(home, stack, known)


def look_for_rest(home: Path, stack: str, known: Sequence[StackMarker]) -> Rest:
    """All that is there of a stack: on this machine under any id, elsewhere by the markers.

    Raises AtollError where nobody can be asked.
    """
    here = StackMarker(stack=stack, stack_id="", project="", home=str(home))
    parts = [(here, local.sweep(home, stack))] if _may_be_here(known) else []
    return Rest(parts=(*parts, *((marker, standing.sweep(marker)) for marker in known)))


def remove(rest: Rest) -> None:
    """End and delete all that a sweep has found left. Raises AtollError."""
    for marker, report in rest.parts:
        if report.left:
            standing.clear(marker, report)


def sweep_shape(stack: str, rest: Rest) -> SweepShape:
    """For programs."""
    return SweepShape(
        stack=stack,
        left=items(rest.left),
        kept=items(rest.kept),
        usd_per_hour=rest.usd_per_hour,
    )


def items(found: Iterable[Item]) -> tuple[ItemShape, ...]:
    """For programs."""
    return tuple(
        ItemShape(kind=i.kind, id=i.id, where=i.where, usd_per_hour=i.usd_per_hour) for i in found
    )


def print_sweep(stack: str, rest: Rest, screen: Screen) -> None:
    """For people: the list, how many at the end, and what they cost."""
    for item in rest.left:
        screen.line(f"left  {_line(item)}", BAD)
    for item in rest.kept:
        screen.line(f"kept  {_line(item)}")
    price = _sum(rest) if any(marker.cloud != "local" for marker, _ in rest.parts) else ""
    screen.line(f"stack {stack}: {len(rest.left)} left{price}", BAD if rest.left else GOOD)


def _line(item: Item) -> str:
    usd = item.usd_per_hour
    price = "" if usd is None else f"  {told((usd, usd))} USD/h" if usd else "  free"
    return f"{item.kind} {item.id}  {item.where}{price}"


def _sum(rest: Rest) -> str:
    if not rest.left:
        return ""
    unknown = sum(item.usd_per_hour is None for item in rest.left)
    beside = f", and {unknown} of unknown price or paid by use" if unknown else ""
    return f", {told((rest.usd_per_hour, rest.usd_per_hour))} USD per hour{beside}"


def _may_be_here(known: Sequence[StackMarker]) -> bool:
    """Without a marker too: a folder may be gone, its processes not."""
    return not known or any(marker.cloud == "local" for marker in known)


def _rented(
    home: Path, stack: str, cloud: str | None, region: str | None, stack_id: str | None
) -> StackMarker | None:
    """The marker of a stack that has none here; None if nothing was said. Raises Refused."""
    if cloud is None and region is None and stack_id is None:
        return None
    if cloud is None or region is None or stack_id is None:
        raise Refused("sweep: found a part of --cloud, --region and --id; allowed all or none")
    if cloud != "aws":
        raise Refused(f"sweep --cloud: found {cloud}; allowed aws; leave it out for this machine")
    if not STACK_ID.fullmatch(stack_id):
        raise Refused(
            f"sweep --id: found {stack_id!r}; allowed 8 to 16 digits 0 to f, as they stand in the "
            "names of the stack's things after `atoll-`"
        )
    if not REGION.fullmatch(region):
        raise Refused(f"sweep --region: found {region!r}; name one such as eu-central-1")
    return StackMarker(
        stack=stack, stack_id=stack_id, project="", home=str(home), cloud=cloud, region=region
    )
