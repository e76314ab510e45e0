"""The dead-man timer of a run: whatever happens to it, its pool goes to 0 when its time is over.

A one-off schedule of EventBridge, set before the pool grows, and deleted by AWS once it has fired.
It stays when a run ends early: on an empty pool it does nothing, but it must not end a later run.
So whoever starts one replaces those of earlier runs, and `atoll runs stop` takes its own along.

Not covered: a run that the pool's schedule starts while an earlier run's timer still stands. Nodes,
which end a run by themselves, may not delete timers.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime

from pydantic import BaseModel

from infra.clouds.aws.sweeping.api import Api
from infra.plan.names import rented_name
from runtime.errors import Conflict, Missing, Refused

# A universal target (EventBridge Scheduler user guide, read 2026-11).
SET_CAPACITY = "arn:aws:scheduler:::aws-sdk:autoscaling:setDesiredCapacity"
# As often as AWS allows: nobody else may stop the bill. Not for longer: a later run may be on then.
RETRIES, RETRY_S = 185, 3600
NAME_MAX = 64  # of a schedule
TIMER = "timer"  # the part of the role's name


class _Timer(BaseModel):
    name: str
    group: str


class _Role(BaseModel):
    arn: str


def order(group: str, size: int) -> str:
    """What Auto Scaling is told."""
    return json.dumps({"AutoScalingGroupName": group, "DesiredCapacity": size})


def arm(api: Api, stack_id: str, pool: str, run: str, ends: datetime) -> None:
    """Have a pool set to 0 at a time, and at no other. Raises AtollError: then nothing may grow.

    The new timer stands before an older one goes.
    """
    name = _name(pool, run)
    assert len(name) <= NAME_MAX, name
    at = ends.astimezone(UTC)
    wish: dict[str, object] = {
        "Name": name,
        "GroupName": rented_name(stack_id),
        "ScheduleExpression": f"at({at:%Y-%m-%dT%H:%M:%S})",
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": "DELETE",
        "Target": {
            "Arn": SET_CAPACITY,
            "RoleArn": _role_arn(api, stack_id),
            "Input": order(rented_name(stack_id, pool), 0),
            "RetryPolicy": {
                "MaximumRetryAttempts": RETRIES,
                "MaximumEventAgeInSeconds": RETRY_S,
            },
        },
    }
    try:
        api.do("scheduler", "create_schedule", **wish)
    except Conflict:  # of the same run, which goes on
        api.do("scheduler", "update_schedule", **wish)
    except Missing as fault:
        raise Refused(f"timers of stack {stack_id}: {fault}; make them with: make up") from fault
    disarm(api, stack_id, pool, but=run)


def disarm(api: Api, stack_id: str, pool: str, but: str | None = None) -> None:
    """Delete a pool's dead-man timers, all or all but a run's. Raises AtollError."""
    group, begins = rented_name(stack_id), _name(pool, "")
    kept = None if but is None else _name(pool, but)
    cut = "Schedules[].{name: Name, group: GroupName}"
    which = {"GroupName": group, "NamePrefix": begins}
    for timer in api.shapes(_Timer, "scheduler", "list_schedules", cut, **which):
        if timer.group == group and timer.name.startswith(begins) and timer.name != kept:
            with suppress(Missing):  # it has fired just now
                api.do("scheduler", "delete_schedule", GroupName=group, Name=timer.name)


def _name(pool: str, run: str) -> str:
    return f"dead-man-{pool}-{run}"


def _role_arn(api: Api, stack_id: str) -> str:
    name = rented_name(stack_id, TIMER)
    try:
        [role] = api.shapes(_Role, "iam", "get_role", "[Role.{arn: Arn}]", RoleName=name)
    except Missing as fault:
        raise Refused(f"role {name}: found none; make it with: make up") from fault
    return role.arn
