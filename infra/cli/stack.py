"""Finds a stack by its name: the marker that it has left in the home folder leads to everything.

So most commands need neither the engine nor the stack's state.
"""

from pathlib import Path

from infra.checkout import StackMarker, markers
from infra.clouds.standing import open_view
from infra.clouds.view import StackView
from runtime.errors import Refused


def find_stack(home: Path, stack: str) -> StackView:
    """The stack of that name; raises Refused if there is none, AtollError if nobody can tell."""
    view = standing(home, stack)
    if view is None:
        others = sorted({marker.stack for marker in markers(home)} - {stack})
        there = f"allowed {', '.join(others)}; " if others else ""
        raise Refused(f"stack {stack}: found none in {home}; {there}make it with: make up")
    return view


def standing(home: Path, stack: str) -> StackView | None:
    """The stack of that name, or None. An id that only left kept stores behind is none."""
    views = (open_view(marker) for marker in stack_markers(home, stack))
    return next((view for view in views if view is not None), None)


def stack_markers(home: Path, stack: str) -> list[StackMarker]:
    """Those of all ids that a stack of that name has had here, the newest first."""
    return [
        marker.model_copy(update={"home": str(home)})  # the folder may have been moved
        for marker in markers(home)
        if marker.stack == stack
    ]
