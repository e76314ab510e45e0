"""The timer of a training pool: it makes the pool grow, and shrink when nobody else does.

EventBridge Scheduler calls Auto Scaling itself: nothing of ours has to stand for it. Its group and
role are there without a schedule, too: dead-man timers of single runs come and go in them.
"""

import pulumi_aws as aws
from pulumi import Input, Output, Resource

from infra.clouds.aws.deadman import SET_CAPACITY, TIMER, order
from infra.clouds.aws.nodes import Pool
from infra.clouds.aws.place import Place
from infra.clouds.aws.rights import assume_policy, timer_policy
from infra.plan.schedule import Wall, later, wall
from runtime.node_spec import Schedule

RETRIES, RETRY_S = 5, 600


def make_timer(
    schedule: Schedule | None, nodes: int, run_hours: float, pool: Pool, place: Place
) -> list[Resource]:
    """Grow at each tick; at the longest end of its run set the pool to 0, whatever has happened."""
    group = aws.scheduler.ScheduleGroup(
        "timer", name=place.name(), tags=place.tags("timer"), opts=place.after()
    )
    role = aws.iam.Role(
        "timer",
        name=place.name(TIMER),
        path=place.path(),
        assume_role_policy=assume_policy("scheduler.amazonaws.com"),
        tags=place.tags("timer"),
        opts=place.after(),
    )
    rights = aws.iam.RolePolicy(
        "timer",
        name=place.name("timer"),
        role=role.name,
        policy=place.group_arn(pool.name).apply(timer_policy),
        opts=place.after(),
    )
    if schedule is None:
        return [group, rights]
    moments = {"grow": (wall(schedule), nodes), "shrink": (later(wall(schedule), run_hours), 0)}
    return [
        _schedule(name, at, schedule.zone, size, pool, group, role, rights, place)
        for name, (at, size) in moments.items()
    ]


def cron(at: Wall) -> str:
    """Six fields, one of the two days a question mark."""
    days = ",".join(at.weekdays).upper()
    return f"cron({at.minute} {at.hour} ? * {days} *)"


def _schedule(
    name: str,
    at: Wall,
    zone: str,
    size: int,
    pool: Pool,
    group: aws.scheduler.ScheduleGroup,
    role: aws.iam.Role,
    rights: Resource,
    place: Place,
) -> aws.scheduler.Schedule:
    return aws.scheduler.Schedule(
        name,
        name=place.name(name),
        group_name=group.name,
        schedule_expression=cron(at),
        schedule_expression_timezone=zone,
        flexible_time_window=aws.scheduler.ScheduleFlexibleTimeWindowArgs(mode="OFF"),
        target=aws.scheduler.ScheduleTargetArgs(
            arn=SET_CAPACITY,
            role_arn=role.arn,
            input=_order(pool.group, size),
            retry_policy=aws.scheduler.ScheduleTargetRetryPolicyArgs(
                maximum_retry_attempts=RETRIES, maximum_event_age_in_seconds=RETRY_S
            ),
        ),
        opts=place.after(rights),
    )


def _order(group: Input[str], size: int) -> Output[str]:
    return Output.from_input(group).apply(lambda name: order(name, size))
