"""Checkpoints torn by a kill or spoilt by a bit, against `torch.save` to one file. Needs strace."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch

from tests.benchmarks.crash_child import Order
from tests.benchmarks.crashes import (
    CALLS,
    Point,
    crash_child,
    flip_bits,
    flipped,
    has_strace,
    kill_a_save,
    kill_at_store_calls,
    order_of,
    strace_version,
)
from tests.benchmarks.figures import Figure, Goal, figure, run

POINTS = 1000
FLIPS = 1000
TORCH_POINTS = 200
SEED = 20260102


def measure(is_quick: bool) -> Sequence[Figure]:
    """All figures."""
    if not has_strace():
        sys.exit("torn: strace is not on the path; install the Debian package strace")
    scale = 20 if is_quick else 1
    points, flips, torch_points = POINTS // scale, FLIPS // scale, TORCH_POINTS // scale
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as name:
        folder = Path(name)
        torn, new = kills(folder / "kills", points)
        torn_torch = torch_kills(folder / "torch", torch_points)
        calls = [
            not ok
            for side in ("before", "after")
            for ok in kill_at_store_calls(folder / "calls", side)
        ]
        found = flip_bits(folder / "flips", Random(SEED), flips)
        missed_torch = torch_flips(folder / "torch", flips)
    rival = f"torch.save {torch.__version__} to one file"
    return [
        figure(
            f"unreadable newest checkpoints after {points} kills by strace {strace_version()}",
            "", [float(torn)], Goal(exactly=0),
        ),
        figure(f"the same of {rival}, of {torch_points}", "", [float(torn_torch)]),
        figure(f"of the {points} kills, those after the commit", "", [float(new)]),
        figure(
            f"unreadable newest checkpoints after {len(calls)} kills before or after a store call",
            "", [float(sum(calls))], Goal(exactly=0),
        ),
        figure(
            f"flipped bits not noticed, of {flips}", "", [float(flips - found)], Goal(exactly=0)
        ),
        figure(f"the same of {rival}, which change what is loaded", "", [float(missed_torch)]),
    ]  # fmt: skip


def kills(folder: Path, points: int) -> tuple[int, int]:
    """How many newest checkpoints were unreadable, and how many were the new one."""
    draw = Random(SEED)
    torn = new = met = 0
    with crash_child("ours") as child:
        while met < points:
            aftermath = kill_a_save(child, folder, draw)
            if aftermath is not None:
                met += 1
                torn += not aftermath.is_readable
                new += aftermath.is_new
    return torn, new


def torch_kills(folder: Path, points: int) -> int:
    """How many files of torch.save can't be loaded after a kill."""
    draw = Random(SEED)
    torn = met = 0
    with crash_child("torch") as child:
        while met < points:
            order = order_of(folder, draw)
            order = Order(store=str(folder / "state.pt"), draft=order.draft, shards=order.shards)
            save(order, 1)
            point = Point("write", draw.randint(1, CALLS["write"]))
            if child.kill_at(order, point):
                met += 1
                torn += load(Path(order.store)) is None
    return torn


def torch_flips(folder: Path, flips: int) -> int:
    """How many flipped bits change what is loaded and are not noticed."""
    draw = Random(SEED)
    order = order_of(folder, draw)
    path = folder / "state.pt"
    save(Order(store=str(path), draft=order.draft, shards=order.shards), 1)
    whole, content = load(path), path.read_bytes()
    assert whole is not None
    missed = 0
    for _ in range(flips):
        path.write_bytes(flipped(content, draw))
        found = load(path)
        missed += found is not None and not (
            found.keys() == whole.keys()
            and all(torch.equal(found[name], whole[name]) for name in whole)
        )
    return missed


def save(order: Order, step: int) -> None:
    """What is there before the kill."""
    state = {
        path.name: torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
        for path in order.shards
    }
    torch.save(state | {"step": torch.tensor(step)}, order.store)


def load(path: Path) -> dict[str, torch.Tensor] | None:
    """What torch.load says, or None if it says that it can't."""
    try:
        return dict(torch.load(path, weights_only=True))
    except Exception:
        return None


if __name__ == "__main__":
    run("torn", measure)
