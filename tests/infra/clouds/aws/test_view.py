"""A stack in AWS as the commands see it: pools, machines, endpoint, timers; and what goes wrong."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.clouds.aws.deadman import SET_CAPACITY
from infra.clouds.aws.view import AwsView, open_view
from infra.clouds.description import KEY
from infra.clouds.view import HeldNode, PoolView
from infra.plan.names import Role
from runtime.errors import AtollError, Corrupt, Refused, Unavailable
from tests.infra.clouds.aws.interceptor import Interceptor
from tests.infra.clouds.aws.planted import OURS, REGION, Stack
from tests.infra.clouds.aws.standing import ENDPOINT, Standing

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOLD_OUT = "We currently do not have sufficient t3.medium capacity"


def view_of(standing: Standing) -> AwsView:
    """Opened anew."""
    view = open_view(standing.marker)
    assert view is not None
    return view


def told(change: Callable[[dict[str, Any]], object], of: str) -> Callable[[Any], None]:
    """A change to each thing of one kind in an answer."""

    def apply(parsed: dict[str, Any]) -> None:
        if of == "Instances":
            for reservation in parsed["Reservations"]:
                for machine in reservation["Instances"]:
                    change(machine)
        else:
            for group in parsed["AutoScalingGroups"]:
                change(group)

    return apply


def nodes(view: AwsView, pool: Role) -> tuple[HeldNode, ...]:
    """Of a pool that there is."""
    held = view.held(pool)
    assert held is not None
    return held.nodes


def test_pools_are_told_by_the_stack_itself(standing: Standing) -> None:
    view = view_of(standing)

    assert view.pools == (
        PoolView(pool="gateway", role="gateway", nodes=1),
        PoolView(pool="replica", role="replica", nodes=2),
        PoolView(pool="training", role="training", nodes=2),
    )
    assert view.training().nodes == 2


def test_pools_of_a_half_made_stack_are_known_by_their_tags(standing: Standing) -> None:
    standing.store("control").delete(KEY)
    standing.stack.client("autoscaling").delete_auto_scaling_group(
        AutoScalingGroupName=standing.stack.name("gateway"), ForceDelete=True
    )

    view = view_of(standing)

    assert [(pool.pool, pool.nodes) for pool in view.pools] == [("replica", 2), ("training", 2)]


def test_a_strangers_group_is_no_pool(standing: Standing, stack: Stack) -> None:
    other = Standing(
        stack=Stack(session=stack.session, id="0badc0de", groups=stack.groups), home=standing.home
    )
    other.make_pool("training", 7)

    assert view_of(standing).training().nodes == 2


def test_without_a_control_store_there_is_no_stack(standing: Standing, stack: Stack) -> None:
    standing.store("control").delete(KEY)
    stack.client("s3").delete_bucket(Bucket=stack.name("control"))

    assert open_view(standing.marker) is None


def test_a_description_that_is_none_is_corrupt(standing: Standing) -> None:
    standing.store("control").put(KEY, b"{}")

    with pytest.raises(Corrupt, match="write it anew with: make up"):
        open_view(standing.marker)


def test_the_endpoint_has_the_name_that_the_stack_goes_by(standing: Standing) -> None:
    before = view_of(standing).endpoint_url
    own_name = standing.make_balancer()

    assert before is None
    assert view_of(standing).endpoint_url == ENDPOINT
    standing.store("control").delete(KEY)
    assert view_of(standing).endpoint_url == f"http://{own_name}"


def test_a_pool_at_0_holds_nothing_and_lacks_nothing(standing: Standing) -> None:
    held = view_of(standing).held("training")

    assert held is not None
    assert (held.wanted, held.nodes, held.why) == (0, (), "")


def test_machines_that_run_have_the_names_that_their_nodes_give_themselves(
    standing: Standing,
) -> None:
    found = nodes(view_of(standing), "replica")

    ids = standing.machines("replica")
    assert sorted(node.node for node in found) == [f"replica-{one}" for one in ids]
    assert {(node.state, node.is_up, node.pid, node.why) for node in found} == {
        ("running", True, None, "")
    }
    assert all(node.address.startswith(("10.", "172.")) for node in found)


def test_a_state_is_what_group_and_machine_say_together(
    standing: Standing, interceptor: Interceptor
) -> None:
    told_of = {"group": "", "machine": ""}

    def of_machine(machine: dict[str, Any]) -> None:
        machine["State"] = {"Name": told_of["machine"]}
        if told_of["machine"] == "terminated":
            machine["StateReason"] = {"Code": "Server", "Message": "Spot instance termination"}

    def of_group(group: dict[str, Any]) -> None:
        for member in group["Instances"]:
            member["LifecycleState"] = told_of["group"]

    interceptor.changes["ec2.DescribeInstances"] = told(of_machine, "Instances")
    interceptor.changes["autoscaling.DescribeAutoScalingGroups"] = told(of_group, "Groups")
    view = view_of(standing)

    for group_says, ec2_says, state in (
        ("Pending", "pending", "pending"),
        ("Pending:Wait", "running", "running"),
        ("Terminating:Wait", "running", "stopping"),
        ("InService", "shutting-down", "stopping"),
        ("InService", "stopped", "stopped"),
        ("InService", "terminated", "terminated"),
    ):
        told_of |= {"group": group_says, "machine": ec2_says}
        [node] = nodes(view, "gateway")
        why = "Spot instance termination" if ec2_says == "terminated" else ""
        assert (node.state, node.is_up, node.why) == (state, ec2_says == "running", why)


def test_a_machine_that_ec2_does_not_know_is_no_fault(
    standing: Standing, interceptor: Interceptor
) -> None:
    said: dict[str, str] = {"InstanceId": "i-0123456789abcdef0"}

    def of_group(group: dict[str, Any]) -> None:
        group["Instances"] = [said]

    interceptor.changes["autoscaling.DescribeAutoScalingGroups"] = told(of_group, "Groups")
    said["LifecycleState"] = "Pending"
    view = view_of(standing)

    for group_says, state in (("Pending", "pending"), ("InService", "terminated")):
        said["LifecycleState"] = group_says
        [node] = nodes(view, "gateway")
        assert (node.node, node.state) == ("gateway-i-0123456789abcdef0", state)


def test_a_pool_that_lacks_machines_tells_why_the_newest_try_failed(
    standing: Standing, interceptor: Interceptor
) -> None:
    activities: list[tuple[str, str]] = []

    def of_group(group: dict[str, Any]) -> None:
        group["Instances"] = []

    def answer(_: Mapping[str, object]) -> Mapping[str, object]:
        return {"Activities": [{"StatusCode": s, "StatusMessage": w} for s, w in activities]}

    interceptor.changes["autoscaling.DescribeAutoScalingGroups"] = told(of_group, "Groups")
    interceptor.answers["autoscaling.DescribeScalingActivities"] = answer
    view = view_of(standing)

    for newest_first, why in (
        ([("InProgress", ""), ("Failed", SOLD_OUT), ("Successful", "")], SOLD_OUT),
        ([("Successful", ""), ("Failed", SOLD_OUT)], ""),
        ([], ""),
    ):
        activities[:] = newest_first
        held = view.held("replica")
        assert held is not None
        assert (held.wanted, held.nodes, held.why) == (2, (), why)


def test_a_pool_that_was_deleted_by_hand_is_kept_by_nobody(
    standing: Standing, interceptor: Interceptor
) -> None:
    standing.stack.client("autoscaling").delete_auto_scaling_group(
        AutoScalingGroupName=standing.stack.name("training"), ForceDelete=True
    )
    # moto has a fault of its own here; these are AWS's words.
    interceptor.answers["autoscaling.SetDesiredCapacity"] = lambda _: {
        "Error": {"Code": "ValidationError", "Message": "AutoScalingGroup name not found - null"},
        "ResponseMetadata": {"HTTPStatusCode": 400},
    }
    view = view_of(standing)

    assert view.held("training") is None
    told = f"no Auto Scaling group atoll-{OURS}-training"
    with pytest.raises(Refused, match=told):
        view.grow(view.training(), "r1", NOON)
    with pytest.raises(Refused, match=told):
        view.rest("training")


def test_a_pool_grows_after_its_dead_man_timer_is_set(
    standing: Standing, interceptor: Interceptor
) -> None:
    view = view_of(standing)
    interceptor.asked.clear()

    view.grow(view.training(), "r1", NOON)

    assert standing.wanted() == 2
    wishes = [
        call for call in interceptor.asked if call.startswith(("scheduler.C", "autoscaling.S"))
    ]
    assert wishes == ["scheduler.CreateSchedule", "autoscaling.SetDesiredCapacity"]
    [(name, timer)] = standing.timers().items()
    target = timer["Target"]
    assert isinstance(target, dict)
    assert name == "dead-man-training-r1"
    assert timer["ScheduleExpression"] == "at(2026-03-01T20:00:00)"  # 8 hours later
    assert timer["ScheduleExpressionTimezone"] == "UTC"
    assert timer["ActionAfterCompletion"] == "DELETE"
    assert target["Arn"] == "arn:aws:scheduler:::aws-sdk:autoscaling:setDesiredCapacity"
    assert target["RoleArn"].endswith(f":role/atoll/{OURS}/atoll-{OURS}-timer")
    assert target["Input"] == (
        f'{{"AutoScalingGroupName": "atoll-{OURS}-training", "DesiredCapacity": 0}}'
    )


def test_a_later_run_takes_an_earlier_ones_timer_away_and_nobody_elses(
    standing: Standing,
) -> None:
    view = view_of(standing)
    view.grow(view.training(), "r1", NOON)
    standing.stack.client("scheduler").create_schedule(
        Name=standing.stack.name("shrink"),
        GroupName=standing.stack.name(),
        ScheduleExpression="cron(0 3 ? * MON *)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": SET_CAPACITY, "RoleArn": "arn:aws:iam::123456789012:role/timer"},
    )

    view.grow(view.training(), "r2", NOON)

    assert set(standing.timers()) == {standing.stack.name("shrink"), "dead-man-training-r2"}


def test_a_run_that_goes_on_gets_its_whole_time_again(standing: Standing) -> None:
    view = view_of(standing)
    view.grow(view.training(), "r1", NOON)

    view.grow(view.training(), "r1", NOON + timedelta(hours=1))

    [timer] = standing.timers().values()
    assert timer["ScheduleExpression"] == "at(2026-03-01T21:00:00)"


def test_without_its_timer_a_pool_does_not_grow(
    standing: Standing, interceptor: Interceptor
) -> None:
    view = view_of(standing)
    for call, code in (
        ("iam.GetRole", "NoSuchEntity"),
        ("scheduler.CreateSchedule", "ResourceNotFoundException"),
        ("scheduler.CreateSchedule", "AccessDeniedException"),
        ("scheduler.ListSchedules", "ThrottlingException"),
    ):
        interceptor.refuse(call, code)

        with pytest.raises(AtollError):
            view.grow(view.training(), "r1", NOON)

        interceptor.answers.clear()
        assert standing.wanted() == 0


def test_a_pool_that_may_have_heard_is_sent_back_to_0(
    standing: Standing, interceptor: Interceptor, stack: Stack
) -> None:
    view = view_of(standing)
    stack.client("autoscaling").set_desired_capacity(
        AutoScalingGroupName=stack.name("training"), DesiredCapacity=2
    )
    interceptor.refuse("autoscaling.SetDesiredCapacity", "InternalFailure", times=1, status=500)

    with pytest.raises(Unavailable):
        view.grow(view.training(), "r1", NOON)

    assert standing.wanted() == 0


def test_a_stack_that_never_was_complete_does_not_grow(standing: Standing) -> None:
    standing.store("control").delete(KEY)
    view = view_of(standing)

    with pytest.raises(Refused, match="finish the stack with: make up"):
        view.grow(view.training(), "r1", NOON)

    assert standing.timers() == {}


def test_a_pool_at_rest_has_no_timer_but_rests_also_where_it_stays(
    standing: Standing, interceptor: Interceptor
) -> None:
    view = view_of(standing)
    view.grow(view.training(), "r1", NOON)
    interceptor.refuse("scheduler.DeleteSchedule", "AccessDeniedException", times=1)

    view.rest("training")

    assert (standing.wanted(), len(standing.timers())) == (0, 1)
    view.rest("training")
    assert standing.timers() == {}


def test_a_reclaim_is_refused_with_what_to_do_instead(standing: Standing) -> None:
    [instance] = standing.machines("gateway")

    with pytest.raises(Refused) as caught:
        view_of(standing).reclaim("gateway", f"gateway-{instance}", 30)

    assert f"aws ec2 terminate-instances --region {REGION} --instance-ids {instance}" in str(
        caught.value
    )


def test_credentials_that_are_over_are_told_in_words(
    standing: Standing, interceptor: Interceptor
) -> None:
    # A HEAD has no body, so that nothing but a number is known of what was wrong with it.
    interceptor.refuse("s3.HeadBucket", "400")
    interceptor.refuse("sts.GetCallerIdentity", "ExpiredToken", status=403)

    with pytest.raises(Refused, match=r"ExpiredToken.* log in again"):
        open_view(standing.marker)
