"""Makes docs/reference/figures.md from the reports beside it: `python -m tests.benchmarks.page`."""

import sys
from collections.abc import Iterator

from infra.checkout import ROOT
from tests.benchmarks.figures import Report, cells

REPORTS = ROOT / "docs" / "reference" / "figures"
PAGE = ROOT / "docs" / "reference" / "figures.md"

HEAD = """# Figures

Made by `python -m tests.benchmarks.page` from `figures/*.json`; don't edit. Each table can be
measured anew: `python -m tests.benchmarks.NAME --json docs/reference/figures/NAME.json`. A value is
the median of its repeats, the spread their largest less their smallest; a goal is met only if every
repeat meets it. A rival was measured in the same run; its ratio is its value by ours.
"""


def page() -> str:
    """The whole page."""
    reports = [
        Report.model_validate_json(path.read_bytes()) for path in sorted(REPORTS.glob("*.json"))
    ]
    return "\n".join([HEAD, *("\n".join(_section(report)) for report in reports)])


def _section(report: Report) -> Iterator[str]:
    machine = report.machine
    yield f"## {report.benchmark}\n"
    yield (
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib:g} GiB, {machine.system}, "
        f"Python {machine.python}; "
        + ", ".join(f"{name} {version}" for name, version in report.versions.items())
        + ".\n"
    )
    yield "| figure | value | spread | repeats | goal | met | rivals |"
    yield "|---|---|---|---|---|---|---|"
    for one in report.figures:
        yield f"| {' | '.join(cells(one))} |"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}\n")
