"""Which cloud can express a schedule. One machine keeps its timer itself, so it can express all."""

from collections.abc import Iterator

from infra.plan.fault import Fault
from infra.plan.settings import at
from infra.plan.spec import CloudName
from runtime.node_spec import Schedule

TIMERS: frozenset[CloudName] = frozenset({"local"})


def schedule_faults(schedule: Schedule | None, cloud: CloudName) -> Iterator[Fault]:
    """A schedule on a cloud whose timer the kit can't set."""
    if schedule is not None and cloud not in TIMERS:
        yield Fault(
            at=at("training.schedule"),
            beside=(at("cluster.cloud"),),
            found=f"a schedule on {cloud}",
            allowed=f"a schedule on {', '.join(sorted(TIMERS))}",
            do="remove it and use atoll runs start",
        )
