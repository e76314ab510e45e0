"""`atoll down`: the way back, with its proof."""

from pathlib import Path

from infra.cli.claims import stop_run
from infra.cli.clock import Clock
from infra.cli.deployer import Deployer
from infra.cli.screen import BAD, Screen
from infra.cli.shapes import DownShape
from infra.cli.stack import find_stack, stack_markers, standing
from infra.cli.sweeping import items, look_for_rest, print_sweep
from infra.cli.turn import turn
from infra.cli.up import live_run


def down(
    home: Path, deployer: Deployer, screen: Screen, clock: Clock, is_forced: bool
) -> DownShape:
    """Destroy the stack and sweep; `is_forced` cancels a live run first."""
    stack = deployer.stack
    known = stack_markers(home, stack)  # the marker goes with the stack
    with turn(home, stack, screen, clock):
        run = live_run(standing(home, stack))
        if run is not None and is_forced:
            stop_run(find_stack(home, stack), run.run, "atoll down --force", clock.date())
            screen.line(f"run {run.run} cancelled")
        is_destroyed = deployer.destroy()
        rest = look_for_rest(home, stack, known)
    if is_destroyed:
        print_sweep(stack, rest, screen)
    else:
        screen.line("destroy did not finish; what it said stands above", BAD)
    return DownShape(
        stack=stack,
        is_destroyed=is_destroyed,
        left=items(rest.left),
        kept=items(rest.kept),
    )
