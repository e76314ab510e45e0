"""`atoll doctor --cloud`: whether an account can carry a stack, before anything of it is made.

Needs neither the engine nor the stack's state.
"""

from pathlib import Path
from typing import Literal

from infra.cli.planned import FOLDER, decide
from infra.cli.screen import STYLES, Screen
from infra.cli.shapes import CheckShape, DoctorShape
from infra.cli.stack import stack_markers
from infra.clouds.checks import Check
from infra.clouds.preflight import CLOUDS, preflight
from runtime.errors import AtollError, Refused

STATES: dict[bool | None, Literal["ok", "fault", "unknown"]] = {
    True: "ok",
    False: "fault",
    None: "unknown",
}


def ahead(home: Path, stack: str, cloud: str) -> DoctorShape:
    """Look at everything; changes nothing. Raises Refused for a cloud that can't be looked at."""
    if cloud not in CLOUDS:
        raise Refused(
            f"doctor --cloud: found {cloud}; allowed {', '.join(CLOUDS)}; leave it out for this "
            "machine"
        )
    try:
        spec, plan = decide(stack)
    except AtollError as fault:
        return _unfit(str(fault), "correct the stack file")
    name = f"{FOLDER.name}/Pulumi.{stack}.yaml"
    if plan.cloud != cloud:
        do = f"name a stack of {cloud} with --stack, such as {cloud}-cpu"
        return _unfit(f"{name}: cluster.cloud is {plan.cloud}", do)
    own = {marker.stack_id for marker in stack_markers(home, stack) if marker.cloud == cloud}
    read = Check(name="stack file", is_ok=True, found=name)
    return DoctorShape(checks=tuple(map(_shape, (read, *preflight(spec, plan, own)))))


def print_ahead(shape: DoctorShape, screen: Screen) -> None:
    """For people: in lines, so that a command can be copied."""
    for check in shape.checks:
        screen.line(f"{check.state:8}{check.name}: {check.found}", STYLES.get(check.state, ""))
        if check.do:
            screen.line(f"{'':8}{check.do}")
    counts = {
        state: sum(check.state == state for check in shape.checks) for state in STATES.values()
    }
    screen.line(", ".join(f"{count} {state}" for state, count in counts.items()))


def _unfit(found: str, do: str) -> DoctorShape:
    return DoctorShape(checks=(_shape(Check(name="stack file", is_ok=False, found=found, do=do)),))


def _shape(check: Check) -> CheckShape:
    return CheckShape(name=check.name, state=STATES[check.is_ok], found=check.found, do=check.do)
