"""What a command prints: lines and tables for people, or one JSON value for programs.

With `--json` the one value goes to standard output and everything else to standard error. Colour
and moving parts appear on a real terminal alone, whatever the environment would force.
"""

import sys
from collections.abc import Sequence
from typing import TextIO

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS = 200  # width of tables where nobody has one

GOOD = "green"
BAD = "red"
DIM = "dim"
STYLES = {
    "ready": GOOD,
    "training": GOOD,
    "running": GOOD,
    "published": GOOD,
    "ok": GOOD,
    "live": GOOD,
    "warn": "yellow",
    "unknown": "yellow",
    "warming": "yellow",
    "starting": "yellow",
    "joining": "yellow",
    "draining": "yellow",
    "claimed": "yellow",
    "fault": BAD,
    "failed": BAD,
    "refused": BAD,
    "lost": BAD,
    "dead": BAD,
}


def console_on(stream: TextIO) -> Console:
    """A console that is plain unless `stream` is a terminal that can do more."""
    is_terminal = stream.isatty()
    return Console(
        file=stream,
        force_terminal=is_terminal,
        no_color=None if is_terminal else True,
        width=None if is_terminal else PIPE_COLUMNS,
        markup=False,
        emoji=False,
        highlight=False,
    )


class Screen:
    """One command's output."""

    def __init__(self, is_json: bool = False) -> None:
        self.is_json = is_json
        self.console = console_on(sys.stderr if is_json else sys.stdout)

    @property
    def is_moving(self) -> bool:
        """Whether lines may be drawn over."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def line(self, text: str, style: str = "") -> None:
        """One line for people, never wrapped by us."""
        self.console.print(Text(text, style=style), soft_wrap=True)

    def piece(self, text: str) -> None:
        """A part of a line, shown at once; the caller ends the line."""
        if self.console.is_terminal:
            self.console.print(Text(text), soft_wrap=True, end="")  # drops control codes
        else:
            self.console.file.write(text)
            self.console.file.flush()

    def result(self, value: BaseModel) -> None:
        """The one JSON value, if it was asked for."""
        if self.is_json:
            sys.stdout.write(value.model_dump_json(indent=2) + "\n")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A titled table, or one line that says there is none."""
        if not rows:
            self.line(f"{title}: none", DIM)
            return
        self.line(title, "bold")
        self.console.print(grid(columns, rows))


def grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Cells beside each other without lines; words of STYLES are coloured."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=DIM)
    table.add_column("", width=1)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row("", *(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    return table
