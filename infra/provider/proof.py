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
from infra.clouds.leftovers import Item, SweepReport
from infra.clouds.standing import open_control, sweep
from infra.plan.limits import boot_s
from infra.provider.guard import refuse_live
from infra.provider.kind import Context, Inputs, Kind
from infra.provider.wire import Properties
from runtime.coordination.log import PoolLog
from runtime.errors import Refused

ID_BYTES = 4
PLACES = ("pools", "nodes", "stores")  # emptied by the other resources, removed here


class ProofInputs(Inputs):
    """Where the stack is and what may be training in it."""

    home: str = Field(description="Folder of all stacks of this clone.")
    project: str
    stack: str
    pools: tuple[str, ...] = Field(description="Training pools.")
    cloud: str = "local"
    region: str | None = Field(default=None, description="Of a rented cloud.")

    def marker(self, stack_id: str) -> StackMarker:
        """By which the CLI and a sweep find the stack."""
        return StackMarker(
            stack=self.stack,
            stack_id=stack_id,
            project=self.project,
            home=self.home,
            cloud=self.cloud,
            region=self.region,
        )


class ProofKind(Kind[ProofInputs]):
    """`atoll:index:Proof`."""

    token: ClassVar[str] = "atoll:index:Proof"  # noqa: S105
    replaces: ClassVar[frozenset[str]] = frozenset({"home", "project", "stack", "cloud", "region"})
    computed: ClassVar[tuple[str, ...]] = ("stack_id",)
    inputs = ProofInputs

    def create(self, inputs: ProofInputs, context: Context) -> tuple[str, Properties]:
        """Draw the id and leave the marker by which the CLI and the sweep find the stack.

        An id whose first `up` was killed before the state knew it is taken up again.
        """
        marker = _unfinished(inputs) or inputs.marker(secrets.token_hex(ID_BYTES))
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
        known = {name: state[name] for name in self.inputs.model_fields if name in state}
        inputs = self.inputs.model_validate(known)
        control = open_control(inputs.marker(str(state["stack_id"])))
        if control is not None:
            for pool in inputs.pools:
                log = PoolLog(control, pool, "proof")
                refuse_live(control, log, inputs.stack, boot_s(is_rented=inputs.cloud != "local"))

    def delete(self, inputs: ProofInputs, computed: Properties, context: Context) -> None:
        """Sweep; fail with the list if anything is left, else print the proof."""
        stack_id = str(computed["stack_id"])
        folder = stack_folder(Path(inputs.home), stack_id)
        is_bare = _remove_empty_places(folder)
        report = sweep(inputs.marker(stack_id))
        # By its marker a sweep knows the stack, so it goes last.
        left = [i for i in report.left if not (is_bare and i.where == str(folder))]
        if left:
            listed = "\n".join(f"  {line(item)}" for item in left)
            raise Refused(
                f"{len(left)} left of stack {inputs.stack} ({stack_id}):\n{listed}\n"
                f"end or remove them, or: atoll sweep --delete --stack {inputs.stack}; "
                "then destroy again"
            )
        if is_bare and not report.kept:
            (folder / MARKER).unlink(missing_ok=True)
            folder.rmdir()
        context.say(proof_text(inputs.marker(stack_id), report), kept=True)


def proof_text(marker: StackMarker, report: SweepReport) -> str:
    """What is printed when nothing is left."""
    how = "process, port, folder, file, socket" if marker.cloud == "local" else "tag, name and path"
    kept = "".join(f"\n  kept {line(item)}" for item in report.kept)
    return f"swept stack {marker.stack} ({marker.stack_id}) by {how}: 0 left{kept}"


def line(item: Item) -> str:
    """One thing, with its price where it has one."""
    price = f", {item.usd_per_hour:.4f} USD/h" if item.usd_per_hour is not None else ""
    return f"{item.kind} {item.id} {item.where}{price}"


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
