"""[cycle] and [preview]: the example stacks of AWS on the real engine, in a strict double of AWS.

Nothing rented answers in the double, so times are the engine's, the program's and the double's own.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from infra.clouds.local.processes import environ, pids
from infra.engine import find_engine
from infra.plan.machines import price_table
from tests.benchmarks.figures import Figure, Goal, figure, run
from tests.doubles.rented_clone import EXAMPLES, Rented, rented_clone
from tests.doubles.strict_cloud import ENV
from tests.end_to_end.conftest import Ran

PREVIEWS = 5
LOOK_S = 0.02
MIB = 1 << 20


def measure(is_quick: bool) -> Sequence[Figure]:
    """Each stack from nothing to nothing, and the preview of one that is not there yet."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name, rented_clone(Path(name), find_engine(print)) as it:
        for stack in EXAMPLES[:1] if is_quick else EXAMPLES:
            it.clone.init(stack)
            figures += _previews(it, stack, 1 if is_quick else PREVIEWS)
            figures += _cycle(it, stack)
    return figures


def _previews(rented: Rented, stack: str, times: int) -> Iterator[Figure]:
    took: list[float] = []
    most: list[float] = []
    for _ in range(times):
        with watched(rented) as peak:
            seconds, ran = timed(lambda: rented.preview(stack))
        assert ran.status == 0, ran.out + ran.said
        took.append(seconds)
        most.append(peak[0] / MIB)
    is_small = stack != "aws-multi-node"
    yield figure(f"{stack}: preview", "s", took, Goal(below=10) if is_small else None)
    yield figure(
        f"{stack}: preview, most memory of all its processes",
        "MiB",
        most,
        Goal(below=1000) if is_small else None,
    )


def _cycle(rented: Rented, stack: str) -> Iterator[Figure]:
    up_s, up = timed(lambda: rented.up(stack))
    assert up.status == 0, up.out + up.said
    made = len(rented.cloud.resources())
    again_s, again = timed(lambda: rented.up(stack))
    assert again.status == 0, again.out + again.said
    drift = rented.preview(stack, "--refresh", "--expect-no-changes")
    rented.change(stack, pools={"gateway": {"machines": ["m7i.large"]}})
    changed = rented.up(stack)
    assert changed.status == 0, changed.out + changed.said
    gone_s, gone = timed(lambda: rented.destroy(stack))
    assert gone.status == 0, gone.out + gone.said
    yield figure(f"{stack}: resources in the double", "", [made])
    yield figure(f"{stack}: up", "s", [up_s])
    yield figure(f"{stack}: up, nothing to change", "s", [again_s])
    changes = int("unchanged" not in again.out) + int(drift.status != 0)
    yield figure(f"{stack}: changes that a second up and a refresh see", "", [changes],
                 Goal(exactly=0))  # fmt: skip
    replaced = changed.out.rpartition("Resources:")[2].count("replaced")
    yield figure(f"{stack}: replaced by another machine for gateways", "", [replaced],
                 Goal(exactly=0))  # fmt: skip
    yield figure(f"{stack}: destroy, with its sweep", "s", [gone_s])
    yield figure(f"{stack}: left", "", [len(rented.left())], Goal(exactly=0))
    yield _price(stack, up)


def _price(stack: str, up: Ran) -> Figure:
    day = price_table("aws").date
    line = next(line for line in up.out.splitlines() if "price_per_hour_usd" in line)
    return figure(
        f"{stack}: price at rest, list prices of {day:%Y-%m-%d}",
        "USD/h",
        [float(line.rpartition(":")[2])],
    )


def timed(act: Callable[[], Ran]) -> tuple[float, Ran]:
    """Seconds, and what came of it."""
    began = time.monotonic()
    ran = act()
    return time.monotonic() - began, ran


@contextmanager
def watched(rented: Rented) -> Iterator[list[int]]:
    """Most bytes that all processes of a clone held together, shared pages counted once."""
    peak, is_over = [0], Event()
    mark = str(rented.cloud.path)

    def look() -> None:
        while not is_over.wait(LOOK_S):
            peak[0] = max(peak[0], held_bytes(mark))

    thread = Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        is_over.set()
        thread.join()


def held_bytes(mark: str) -> int:
    """Of all processes that were told of this double."""
    return sum(_share_bytes(pid) for pid in pids() if environ(pid).get(ENV) == mark)


def _share_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # it has just ended
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) << 10


if __name__ == "__main__":
    run("aws_cycle", measure)
