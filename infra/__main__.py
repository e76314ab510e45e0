"""The Pulumi program: read → plan → deploy → export.

Refuses with all faults at once, before anything is declared.
"""

import pulumi

from infra.clouds import cloud, look
from infra.clouds.outputs import export
from infra.config import stack_spec
from infra.plan.money import receipt
from infra.plan.plan import Plan, plan
from runtime.errors import Refused


def main() -> None:
    """Declare the stack's resources."""
    try:
        spec, faults = stack_spec()
        planned = plan(spec, look(spec), faults)
        place = cloud(planned.cloud)
    except Refused as fault:
        raise pulumi.RunError(str(fault)) from None
    if pulumi.runtime.is_dry_run():
        tell(planned)
    export(place.deploy(planned, pulumi.get_project(), pulumi.get_stack()))


def tell(planned: Plan) -> None:
    """What it would cost, and what works but could be had for less."""
    lines = receipt(planned.price)
    if lines:
        pulumi.log.info("\n".join(lines))
    for sentence in planned.advice:
        pulumi.log.info(f"advice: {sentence}")


main()
