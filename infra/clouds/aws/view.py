"""A stack in AWS, as Auto Scaling, EC2, the balancer and the stack's own description tell it."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import get_args

from pydantic import BaseModel, Field, field_validator

from infra.checkout import StackMarker
from infra.clouds.aws.deadman import arm, disarm
from infra.clouds.aws.rights import log_group_name
from infra.clouds.aws.session import control_url, has_bucket_in, open_bucket_in, open_session
from infra.clouds.aws.sweeping.api import Api
from infra.clouds.aws.tags import TAG_ID, TAG_ROLE
from infra.clouds.description import KEY, StackDescription, read_description
from infra.clouds.view import HeldNode, HeldPool, PoolView, StackView
from infra.plan.names import Role, rented_name
from runtime.errors import AtollError, Missing, Refused, Unavailable
from runtime.objects import Store

LOOK_S = 5.0  # AWS answers all who ask of one account together so often a second, and no more
ROLES: tuple[Role, ...] = get_args(Role)
PORTS = {"HTTP": 80, "HTTPS": 443}


class _Member(BaseModel):
    id: str
    state: str  # as Auto Scaling has it


class _Group(BaseModel):
    name: str
    tags: Mapping[str, str] = Field(default_factory=dict)
    wanted: int
    most: int
    members: tuple[_Member, ...] = ()

    @field_validator("tags", mode="before")
    @classmethod
    def _pairs(cls, tags: Iterable[Mapping[str, str]] | None) -> object:
        return {pair["Key"]: pair.get("Value", "") for pair in tags or ()}


class _Machine(BaseModel):
    id: str
    state: str
    address: str | None = None
    why: str | None = None


class _Activity(BaseModel):
    status: str
    words: str | None = None


class _Balancer(BaseModel):
    arn: str
    host: str


class _Listener(BaseModel):
    protocol: str
    port: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AwsView(StackView):
    """Pools are Auto Scaling groups; a node is named by its pool and its instance."""

    api: Api
    run_hours: float | None  # None: no `up` has reached its end

    def held(self, pool: str) -> HeldPool | None:
        """As its group tells it; None if there is no such group."""
        groups = _groups(self.api, AutoScalingGroupNames=[self._group(pool)])
        if not groups:
            return None
        [group] = groups
        machines = {machine.id: machine for machine in _machines(self.api, group)}
        nodes = tuple(_node(pool, member, machines.get(member.id)) for member in group.members)
        coming = sum(node.state in ("pending", "running") for node in nodes)
        why = _shortage(self.api, group.name) if coming < group.wanted else ""
        return HeldPool(wanted=group.wanted, nodes=nodes, why=why)

    def grow(self, pool: PoolView, run: str, now: datetime) -> None:
        """With a dead-man timer first, which stops its bill at the run's longest end."""
        if self.run_hours is None:
            raise Refused(
                f"pool {pool.pool}: found no {KEY} in the control store, which tells how long a "
                "run may take; finish the stack with: make up"
            )
        ends = now + timedelta(hours=self.run_hours)
        arm(self.api, self.stack_id, pool.pool, run, ends)
        try:
            self._set_size(pool.pool, pool.nodes)
        except Unavailable:  # it may have been heard all the same
            with suppress(AtollError):
                self._set_size(pool.pool, 0)
            raise

    def rest(self, pool: str) -> None:
        """Its timer need not stay, but may: the next run to start takes it away."""
        self._set_size(pool, 0)
        with suppress(AtollError):
            disarm(self.api, self.stack_id, pool)

    def reclaim(self, pool: str, node: str, after_s: float) -> None:
        """Refused: a notice comes from AWS itself."""
        instance, region = node.removeprefix(f"{pool}-"), self.api.region
        raise Refused(
            f"node {node}: AWS alone gives notice; have it given by Fault Injection Service "
            "(action aws:ec2:send-spot-instance-interruptions), or end the machine without one: "
            f"aws ec2 terminate-instances --region {region} --instance-ids {instance}"
        )

    def logs(self, pool: str) -> str:
        """In the log group; before a node starts, on its machine alone, while that stands."""
        region = self.api.region
        return (
            f"`aws logs tail {log_group_name(self.stack_id)} --region {region} --follow --since 1h "
            f"--log-stream-name-prefix {pool}-`; of a boot, "
            f"`aws ssm start-session --region {region} --target INSTANCE`, "
            "and there: journalctl -u atoll -u cloud-final"
        )

    def _group(self, pool: str) -> str:
        return rented_name(self.stack_id, pool)

    def _set_size(self, pool: str, size: int) -> None:
        group = self._group(pool)
        wish = {"AutoScalingGroupName": group, "DesiredCapacity": size, "HonorCooldown": False}
        try:
            self.api.do("autoscaling", "set_desired_capacity", **wish)
        except Missing as fault:
            raise Refused(
                f"pool {pool}: found no Auto Scaling group {group}; heal it with: make up"
            ) from fault


def open_view(marker: StackMarker) -> AwsView | None:
    """The stack of a marker; None if it has no control store. Raises AtollError."""
    assert marker.region is not None, "a rented cloud's stack is made with it"
    stack_id, region = marker.stack_id, marker.region
    session = open_session(region)
    api = Api(session, region)
    if not has_bucket_in(api, control_url(stack_id)):
        return None

    def store(role: str) -> Store:
        return open_bucket_in(session, f"s3://{rented_name(stack_id, role)}", region)

    control = store("control")
    told = read_description(control)
    return AwsView(
        stack=marker.stack,
        stack_id=stack_id,
        control=control,
        checkpoints=store("checkpoints"),
        models=store("models"),
        pools=tuple(_pools(api, stack_id, told)),
        endpoint_url=_endpoint(api, stack_id, told),
        is_rented=True,
        look_s=LOOK_S,
        api=api,
        run_hours=None if told is None else told.run_hours,
    )


def _pools(api: Api, stack_id: str, told: StackDescription | None) -> Iterator[PoolView]:
    """In the order of their names: those that the stack tells of, and those that are half made."""
    known = {pool.pool: pool for pool in told.pools} if told else {}
    tagged = {
        group.tags[TAG_ROLE]: group
        for group in _groups(api, Filters=[{"Name": f"tag:{TAG_ID}", "Values": [stack_id]}])
        if group.tags.get(TAG_ID) == stack_id and group.tags.get(TAG_ROLE) in ROLES
    }
    for name in sorted(known.keys() | tagged.keys()):
        if name in known:
            yield PoolView(pool=name, role=known[name].role, nodes=known[name].nodes_max)
            continue
        role = next(role for role in ROLES if role == name)
        group = tagged[name]
        yield PoolView(
            pool=name, role=role, nodes=group.most if role == "training" else group.wanted
        )


def _endpoint(api: Api, stack_id: str, told: StackDescription | None) -> str | None:
    """By the name that the stack goes by; else by the balancer's own."""
    cut = "LoadBalancers[].{arn: LoadBalancerArn, host: DNSName}"
    try:
        [balancer] = api.shapes(
            _Balancer, "elbv2", "describe_load_balancers", cut, Names=[rented_name(stack_id)]
        )
        if told is not None:
            return told.endpoint_url
        cut = "Listeners[].{protocol: Protocol, port: Port}"
        listeners = api.shapes(
            _Listener, "elbv2", "describe_listeners", cut, LoadBalancerArn=balancer.arn
        )
    except Missing:
        return None
    for listener in listeners:
        port = "" if listener.port == PORTS.get(listener.protocol) else f":{listener.port}"
        return f"{listener.protocol.lower()}://{balancer.host}{port}"
    return None


def _groups(api: Api, **which: object) -> list[_Group]:
    cut = """AutoScalingGroups[].{
        name: AutoScalingGroupName, tags: Tags, wanted: DesiredCapacity, most: MaxSize,
        members: Instances[].{id: InstanceId, state: LifecycleState}
    }"""
    return api.shapes(_Group, "autoscaling", "describe_auto_scaling_groups", cut, **which)


def _machines(api: Api, group: _Group) -> list[_Machine]:
    """By a filter: a machine that EC2 does not know yet, or no more, is no fault then."""
    if not group.members:
        return []
    cut = """Reservations[].Instances[].{
        id: InstanceId, state: State.Name, address: PrivateIpAddress, why: StateReason.Message
    }"""
    which = [{"Name": "instance-id", "Values": [member.id for member in group.members]}]
    return api.shapes(_Machine, "ec2", "describe_instances", cut, Filters=which)


def _node(pool: str, member: _Member, machine: _Machine | None) -> HeldNode:
    state, why = _state(member, machine)
    return HeldNode(
        node=f"{pool}-{member.id}",
        address=(machine and machine.address) or "",
        pid=None,
        state=state,
        is_up=machine is not None and machine.state == "running",
        why=why,
    )


def _state(member: _Member, machine: _Machine | None) -> tuple[str, str]:
    """As EC2 calls it, but for a machine that its group has told to go."""
    if machine is None:
        return ("pending", "") if member.state.startswith("Pending") else ("terminated", "")
    if machine.state in ("pending", "running"):
        return ("stopping", "") if member.state.startswith("Terminating") else (machine.state, "")
    state = "stopping" if machine.state == "shutting-down" else machine.state
    return state, machine.why or ""


def _shortage(api: Api, group: str) -> str:
    """Why the newest try to get a machine failed; nothing where one has succeeded since."""
    cut = "Activities[].{status: StatusCode, words: StatusMessage}"
    for activity in api.first_shapes(
        _Activity, "autoscaling", "describe_scaling_activities", cut, AutoScalingGroupName=group
    ):  # newest first
        if activity.status == "Successful":
            break
        if activity.status == "Failed" and activity.words:
            return activity.words
    return ""
