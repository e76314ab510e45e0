"""From a machine with git, make and Python, and nothing else: how long until there is an answer.

A clone of HEAD with an empty home and empty caches, and a PATH without Pulumi, Go or uv: what
`make up` and `make test` do there, split by part. Some twenty minutes, most of it the engine's
build and the tests.
"""

import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.benchmarks.clone import LAST_LINES, BenchmarkClone, Made
from tests.benchmarks.figures import Figure, Goal, figure, run

PREPARED = ("pulumi", "go", "uv")  # programs that such a machine has not
# A person's settings that name or keep something; those of the package index stay.
SETTINGS = re.compile(r"(XDG|PULUMI|ATOLL|GO|UV|VIRTUAL_ENV|PYTHON|MAKE|MFLAGS|AWS|AZURE|GOOGLE)")
TESTS_S = 600


def measure(is_quick: bool) -> Sequence[Figure]:
    """The parts of the first `make up`, and `make test`; a quick run has only the fast tests."""
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        clone = BenchmarkClone.of_head(Path(folder))
        clone.env = bare(os.environ, home)
        packages = clone.make("venv").seconds
        engine = clone.make("setup").seconds
        up = clone.make("up")
        answer = up.first(r"^def read_lines\(path\):")
        down = clone.make("down")
        down.first(r"stack local: 0 left")
        tests = clone.make("test-fast" if is_quick else "test", may_fail=True)
    return [
        figure("virtual environment from the locks, empty caches", "s", [packages]),
        figure("the engine, from its Go modules, Go fetched too", "s", [engine]),
        figure("`make up`, set-up done, until the first token", "s", [answer]),
        figure(
            "together, from a bare machine to the first token", "s", [packages + engine + answer]
        ),
        figure("`make down`, with `0 left`", "s", [down.seconds]),
        figure("`make test`, set-up done", "s", [tests.seconds], Goal(below=TESTS_S)),
        figure("tests that failed", "", [failed(tests)], Goal(exactly=0)),
    ]


def failed(tests: Made) -> float:
    """How many, by pytest's closing line; what they said goes to standard error."""
    [closing] = [line.text for line in tests.lines if re.match(r"\d+ .*\bin [\d.]+s", line.text)]
    found = re.findall(r"(\d+) (?:failed|errors?)", closing)
    if found:
        sys.stderr.writelines(f"{line.text}\n" for line in tests.lines[-LAST_LINES:])
    return float(sum(map(int, found)))


def bare(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """The environment of somebody who has installed nothing."""
    env = {name: value for name, value in environ.items() if not SETTINGS.match(name)}
    folders = [
        folder
        for folder in environ.get("PATH", os.defpath).split(os.pathsep)
        if not any((Path(folder) / name).exists() for name in PREPARED)
    ]
    return env | {"HOME": str(home), "PATH": os.pathsep.join(folders)}


if __name__ == "__main__":
    run("fresh_clone", measure)
