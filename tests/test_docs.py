"""The documents say what is there: commands, settings, links. They run in end_to_end/."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import yaml
from typer.testing import CliRunner

from infra.cli.main import app
from infra.config import read_spec
from infra.plan.facts import UNSEEN
from infra.plan.fault import Fault
from infra.plan.machines import RENTED
from infra.plan.plan import plan_faults
from tests.benchmarks import page as figures
from tests.conftest import ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
WRITTEN = [path for path in PAGES if path.parent.name not in ("reference", "decisions")]
PULUMI = {"up", "destroy", "stack", "config"}


def blocks(path: Path, language: str = "") -> Iterator[str]:
    """The fenced blocks of one language; commands are in blocks that name none."""
    for named, block in re.findall(r"^ *```(.*)\n((?:.*\n)*?) *```$", path.read_text(), re.M):
        if named == language:
            yield block


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command of every page, split as a shell does."""
    for path in WRITTEN:
        for block in blocks(path):
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                if words and re.match(r"(make|atoll|pulumi)$", words[0]):
                    yield path.name, words


def test_links_lead_to_files() -> None:
    broken = [
        f"{path.name}: {target}"
        for path in PAGES
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text())
        if "://" not in target and not (path.parent / target).exists()
    ]

    assert broken == []


def test_commands_are_those_that_there_are() -> None:
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M)
    found = list(commands())

    for page_name, (program, *words) in found:
        if program == "make":
            assert set(words) <= set(targets), (page_name, words)
        elif program == "pulumi":
            assert words[0] in PULUMI, (page_name, words)
        else:
            told = CliRunner().invoke(app, [*words, "--help"])  # parsed, but not run
            assert told.exit_code == 0, (page_name, words, told.output)
    assert len(found) > 10


def test_settings_in_the_pages_are_settings_and_whole_stacks_are_planned() -> None:
    faults: list[Fault] = []
    rented = 0
    for path in WRITTEN:
        for block in blocks(path, "yaml"):
            read = yaml.safe_load(block)
            config = read.get("config") or {"atoll:training": read}
            spec, found = read_spec(config)
            faults += found
            if spec.cluster.cloud in RENTED:
                faults += plan_faults(spec, UNSEEN)
                rented += 1

    assert faults == []
    assert rented > 0


def test_the_page_of_figures_is_fresh() -> None:
    assert figures.PAGE.read_text() == figures.page(), "run: make docs"
