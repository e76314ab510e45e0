"""`atoll sweep`: what a stack has left, found without Pulumi's state."""

from collections.abc import Iterable
from pathlib import Path

from infra.cli.screen import BAD, GOOD, Screen
from infra.cli.shapes import ItemShape, SweepShape
from infra.clouds.leftovers import Item, SweepReport
from infra.clouds.local.sweep import clear, sweep


def look_for_rest(home: Path, stack: str, known_ids: Iterable[str] = ()) -> SweepReport:
    """All that is there of a stack, under any id that its marker, a process or we know."""
    reports = [sweep(home, stack), *(sweep(home, stack, one) for one in set(known_ids))]
    return SweepReport(
        left=tuple(dict.fromkeys(item for report in reports for item in report.left)),
        kept=tuple(dict.fromkeys(item for report in reports for item in report.kept)),
    )


def remove(report: SweepReport) -> None:
    """End the processes and delete the folders and files that a sweep has found."""
    clear(report)


def sweep_shape(stack: str, report: SweepReport) -> SweepShape:
    """For programs."""
    return SweepShape(stack=stack, left=items(report.left), kept=items(report.kept))


def items(found: Iterable[Item]) -> tuple[ItemShape, ...]:
    """For programs."""
    return tuple(ItemShape(kind=item.kind, id=item.id, where=item.where) for item in found)


def print_sweep(stack: str, report: SweepReport, screen: Screen) -> None:
    """For people: the list, and how many at the end."""
    for item in report.left:
        screen.line(f"left  {item.kind} {item.id}  {item.where}", BAD)
    for item in report.kept:
        screen.line(f"kept  {item.kind} {item.id}  {item.where}")
    screen.line(f"stack {stack}: {len(report.left)} left", BAD if report.left else GOOD)
