"""What children write goes where it went before, and is told by lines beside."""

import os
import queue
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from runtime.clouds.overheard import Overheard
from runtime.limits import LOG_LINE_BYTES_MAX
from runtime.train.child import Child

UNTIL_S = 60.0


@dataclass
class Heard:
    """A pipe under test, what it told, and where it passes on to."""

    overheard: Overheard
    lines: "queue.SimpleQueue[str]"
    passed_on: int

    def all(self) -> list[str]:
        """Once all children have ended."""
        self.overheard.close(UNTIL_S)
        return [self.lines.get_nowait() for _ in range(self.lines.qsize())]


@pytest.fixture
def heard() -> Iterator[Heard]:
    """One that passes on to a pipe of this test."""
    passed_on, out = os.pipe()
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    yield Heard(Overheard(lines.put, out), lines, passed_on)
    for one in (passed_on, out):
        os.close(one)


def write(heard: Heard, program: str) -> None:
    """By a child."""
    command = [sys.executable, "-c", program]
    subprocess.run(command, stderr=heard.overheard.stderr, check=True, timeout=UNTIL_S)


def test_children_are_heard_by_lines_and_passed_on_as_they_are(heard: Heard) -> None:
    write(heard, "import sys; sys.stderr.buffer.write(b'one\\ntwo\\n\\nthr\\xffee')")

    assert heard.all() == ["one", "two", "thr\ufffdee"]
    assert os.read(heard.passed_on, 100) == b"one\ntwo\n\nthr\xffee"


def test_a_line_without_an_end_is_told_in_pieces(heard: Heard) -> None:
    count = 3 * LOG_LINE_BYTES_MAX
    program = f"import sys; sys.stderr.write('x' * {count})"
    with subprocess.Popen([sys.executable, "-c", program], stderr=heard.overheard.stderr):
        left = count
        while left:
            left -= len(os.read(heard.passed_on, left))

    lines = heard.all()

    assert "".join(lines) == "x" * count
    assert len(lines) > 1


def test_children_go_on_when_nobody_reads_what_is_passed_on() -> None:
    passed_on, out = os.pipe()
    os.close(passed_on)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    heard = Heard(Overheard(lines.put, out), lines, passed_on)

    write(heard, f"import sys; sys.stderr.write('x\\n' * {1 << 17})")

    assert len(heard.all()) == 1 << 17
    os.close(out)


@pytest.mark.slow
def test_a_worker_is_overheard(heard: Heard) -> None:
    inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
    child = Child(inbox, heard.overheard.stderr)
    assert child._process.stdin is not None

    try:
        child._process.stdin.write(b"no command\n")
        child._process.stdin.flush()
        while "validation error" not in heard.lines.get(timeout=UNTIL_S):
            pass
    finally:
        child.stop()
