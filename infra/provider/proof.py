"""Proof: everything depends on it, so it is made first and deleted last, with a sweep.

It draws the stack's id, by which the sweep finds what is left without reading Pulumi's state.
Since everything depends on it, it also is the one place that can stop an `up` before anything
happens: it refuses while a run is live.
"""

import secrets
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from infra.checkout import MARKER, StackMarker, markers, stack_folder, write_marker
from infra.clouds.leftovers import SweepReport
from infra.clouds.local.sweep import sweep
from infra.provider.guard import refuse_live
from infra.provider.kind import Context, Inputs, Kind
from infra.provider.wire import Properties
from runtime.coordination.log import PoolLog
from runtime.errors import Refused
from runtime.objects import file_url, open_store

ID_BYTES = 4
PLACES = ("pools", "nodes", "stores")  # emptied by the other resources, removed here


class ProofInputs(Inputs):
    """Where the stack is and what may be training in it."""

    home: str = Field(description="Folder of all stacks of this clone.")
    project: str
    stack: str
    pools: tuple[str, ...] = Field(description="Training pools.")


class ProofKind(Kind[ProofInputs]):
    """`atoll:index:Proof`."""

    token: ClassVar[str] = "atoll:index:Proof"  # noqa: S105
    replaces: ClassVar[frozenset[str]] = frozenset({"home", "project", "stack"})
    computed: ClassVar[tuple[str, ...]] = ("stack_id",)
    inputs = ProofInputs

    def create(self, inputs: ProofInputs, context: Context) -> tuple[str, Properties]:
        """Draw the id and leave the marker by which the CLI and the sweep find the stack.

        An id whose first `up` was killed before the state knew it is taken up again.
        """
        marker = _unfinished(inputs) or StackMarker(
            stack=inputs.stack,
            stack_id=secrets.token_hex(ID_BYTES),
            project=inputs.project,
            home=inputs.home,
        )
        try:
            write_marker(marker)
        except OSError as fault:
            raise Refused(
                f"stack: found {fault.strerror} at {inputs.home}; allowed a folder that can be "
                "written to; change its rights or set ATOLL_HOME"
            ) from fault
        return marker.stack_id, {"stack_id": marker.stack_id}

    def read(self, inputs: ProofInputs, computed: Properties) -> bool:
        """A number in the state: it is there."""
        return True

    def refuse_update(self, state: Properties) -> None:
        """No `up` while a run is live."""
        folder = stack_folder(Path(str(state["home"])), str(state["stack_id"]))
        store, pools = folder / "stores" / "control", state["pools"]
        assert isinstance(pools, list), "as inputs have it"
        if store.is_dir():
            control = open_store(file_url(store))
            for pool in map(str, pools):
                refuse_live(control, PoolLog(control, pool, "proof"), str(state["stack"]))

    def delete(self, inputs: ProofInputs, computed: Properties, context: Context) -> None:
        """Sweep; fail with the list if anything is left, else print the proof."""
        stack_id = str(computed["stack_id"])
        folder = stack_folder(Path(inputs.home), stack_id)
        is_bare = _remove_empty_places(folder)
        report = sweep(Path(inputs.home), inputs.stack, stack_id)
        # By its marker a sweep knows the stack, so it goes last.
        left = [i for i in report.left if not (is_bare and i.where == str(folder))]
        if left:
            listed = "\n".join(f"  {i.kind} {i.id} {i.where}" for i in left)
            raise Refused(
                f"{len(left)} left of stack {inputs.stack} ({stack_id}):\n{listed}\n"
                f"end or remove them, or: atoll sweep --delete --stack {inputs.stack}; "
                "then destroy again"
            )
        if is_bare:
            (folder / MARKER).unlink(missing_ok=True)
            folder.rmdir()
        context.say(proof_text(inputs.stack, stack_id, report), kept=True)


def proof_text(stack: str, stack_id: str, report: SweepReport) -> str:
    """What is printed when nothing is left."""
    kept = "".join(f"\n  kept {i.kind} {i.id} {i.where}" for i in report.kept)
    return f"swept stack {stack} ({stack_id}) by process, port, folder, file, socket: 0 left{kept}"


def _unfinished(inputs: ProofInputs) -> StackMarker | None:
    for marker in markers(Path(inputs.home)):
        if (marker.stack, marker.project) == (inputs.stack, inputs.project):
            return None if marker.is_complete else marker
    return None


def _remove_empty_places(folder: Path) -> bool:
    """Remove what the other resources have emptied; whether nothing but the marker stays."""
    for place in PLACES:
        with suppress(OSError):  # it is not there, or not empty
            (folder / place).rmdir()
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= {MARKER}
