"""Which cloud can express a schedule. One machine keeps its timer itself, so it can express all."""

from infra.plan.fault import Fault
from infra.plan.spec import CloudName
from runtime.node_spec import Schedule

TIMERS: frozenset[CloudName] = frozenset({"local"})


def schedule_faults(schedule: Schedule | None, cloud: CloudName) -> list[Fault]:
    """A schedule on a cloud whose timer the kit can't set."""
    if schedule is None or cloud in TIMERS:
        return []
    return [
        Fault(
            at="atoll:training.schedule",
            found=f"a schedule on {cloud}",
            allowed=f"a schedule on {', '.join(sorted(TIMERS))}",
            do="remove it and use atoll runs start",
        )
    ]
