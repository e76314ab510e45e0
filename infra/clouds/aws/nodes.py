"""Pools: launch templates and Auto Scaling groups.

The size of a training pool is run-time state: it is made at 0 and never an input, so that what
timers and nodes do with it is no drift. Replicas and gateways roll one after the other: a new node
is there before an old one goes.
"""

import base64
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import Input, Output, Resource

from infra.clouds.aws.fabric import fabric_cards
from infra.clouds.aws.identity import Identity
from infra.clouds.aws.network import Network
from infra.clouds.aws.place import Place
from infra.plan.limits import BOOT_S
from infra.plan.plan import PoolPlan
from infra.plan.spec import PoolSpec

ROOT_DEVICE = "/dev/sda1"  # of Ubuntu's images
BOOT_HOOK = "boot"  # as in the boot text
WARMUP_S = 120  # from a started process to its model's first token
HEALTHY_MIN, HEALTHY_MAX = 100, 150  # percent of the wanted nodes during a roll


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """A pool as other rooms need it."""

    name: str
    group: Output[str]  # name of its Auto Scaling group
    last: Resource


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """What a pool's nodes are started with."""

    image_id: Input[str]
    text: Input[str]  # the boot text
    identity: Identity


def make_pool(
    plan: PoolPlan,
    start: Start,
    network: Network,
    target_group_arn: Output[str] | None,
    place: Place,
) -> Pool:
    """One pool; `target_group_arn` is where the balancer finds its nodes."""
    template = _template(plan, start, network, place)
    is_training = plan.role == "training"
    subnets = network.private[:1] if is_training else network.private
    group = aws.autoscaling.Group(
        plan.name,
        name=place.name(plan.name),
        min_size=0 if is_training else plan.size_at_rest,
        max_size=plan.size_max if is_training else plan.size_max + 1,
        desired_capacity=None if is_training else plan.size_at_rest,
        vpc_zone_identifiers=list(subnets),
        mixed_instances_policy=_mixed(plan.rented, template),
        # A node that is lost is replaced where it was: nobody moves nodes between zones meanwhile.
        suspended_processes=["AZRebalance"] if is_training else None,
        placement_group=_placement(plan, place),
        target_group_arns=None if target_group_arn is None else [target_group_arn],
        # Not the balancer's checks: while no model is live no gateway is ready, and each would go.
        health_check_type="EC2",
        health_check_grace_period=WARMUP_S,
        initial_lifecycle_hooks=None if is_training else [_boot_hook()],
        default_instance_warmup=WARMUP_S,
        # An `up` does not wait for machines that are sold out; `atoll status` tells.
        wait_for_capacity_timeout="0",
        instance_refresh=None if is_training else _roll(),
        tags=[
            aws.autoscaling.GroupTagArgs(key=key, value=value, propagate_at_launch=True)
            for key, value in place.tags(plan.name).items()
        ],
        opts=place.after(start.identity.rights, *network.ways),
    )
    return Pool(name=plan.name, group=group.name, last=group)


def _template(
    plan: PoolPlan, start: Start, network: Network, place: Place
) -> aws.ec2.LaunchTemplate:
    tags = place.tags(plan.name)
    cards = fabric_cards(plan, network.pools[plan.role])
    return aws.ec2.LaunchTemplate(
        plan.name,
        name=place.name(plan.name),
        image_id=start.image_id,
        instance_type=plan.rented.machines[0],
        iam_instance_profile=aws.ec2.LaunchTemplateIamInstanceProfileArgs(
            arn=start.identity.profile_arn
        ),
        user_data=Output.from_input(start.text).apply(_base64),
        metadata_options=aws.ec2.LaunchTemplateMetadataOptionsArgs(
            http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=1
        ),
        block_device_mappings=[_disk(plan.rented)],
        vpc_security_group_ids=None if cards else [network.pools[plan.role]],
        network_interfaces=cards,
        # A node that can't boot powers off, and is then gone from the bill.
        instance_initiated_shutdown_behavior="terminate",
        capacity_reservation_specification=_reservation(plan.rented),
        update_default_version=True,
        tag_specifications=[
            aws.ec2.LaunchTemplateTagSpecificationArgs(resource_type=kind, tags=tags)
            for kind in ("instance", "volume", "network-interface")
        ],
        tags=tags,
        opts=place.after(),
    )


def _disk(rented: PoolSpec) -> aws.ec2.LaunchTemplateBlockDeviceMappingArgs:
    return aws.ec2.LaunchTemplateBlockDeviceMappingArgs(
        device_name=ROOT_DEVICE,
        ebs=aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
            volume_size=rented.disk_gib,
            volume_type="gp3",
            encrypted="true",
            delete_on_termination="true",
        ),
    )


def _reservation(
    rented: PoolSpec,
) -> aws.ec2.LaunchTemplateCapacityReservationSpecificationArgs | None:
    if rented.reservation is None:
        return None
    target = aws.ec2.LaunchTemplateCapacityReservationSpecificationCapacityReservationTargetArgs(
        capacity_reservation_id=rented.reservation
    )
    return aws.ec2.LaunchTemplateCapacityReservationSpecificationArgs(
        capacity_reservation_target=target
    )


def _mixed(
    rented: PoolSpec, template: aws.ec2.LaunchTemplate
) -> aws.autoscaling.GroupMixedInstancesPolicyArgs:
    """Which machines, and how they are rented. The version's number is named: only then a change
    of the template rolls the pool."""
    on_demand = {"spot": (0, 0), "mixed": (1, 0)}.get(rented.capacity, (0, 100))
    has_choice = len(rented.machines) > 1
    return aws.autoscaling.GroupMixedInstancesPolicyArgs(
        launch_template=aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateArgs(
            launch_template_specification=aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateLaunchTemplateSpecificationArgs(
                launch_template_id=template.id,
                version=template.latest_version.apply(str),
            ),
            overrides=[
                aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateOverrideArgs(
                    instance_type=machine
                )
                for machine in rented.machines
            ]
            if has_choice
            else None,
        ),
        instances_distribution=aws.autoscaling.GroupMixedInstancesPolicyInstancesDistributionArgs(
            on_demand_base_capacity=on_demand[0],
            on_demand_percentage_above_base_capacity=on_demand[1],
            on_demand_allocation_strategy="prioritized",
            spot_allocation_strategy="price-capacity-optimized",
        ),
    )


def _placement(plan: PoolPlan, place: Place) -> Output[str] | None:
    """Near each other, for nodes that meet in collectives over the machine's own network."""
    if not plan.rented.fabric:
        return None
    return aws.ec2.PlacementGroup(
        plan.name,
        name=place.name(plan.name),
        strategy="cluster",
        tags=place.tags(plan.name),
        opts=place.after(),
    ).name


def _boot_hook() -> aws.autoscaling.GroupInitialLifecycleHookArgs:
    """A node counts once its boot text says so; one that never does is replaced."""
    return aws.autoscaling.GroupInitialLifecycleHookArgs(
        name=BOOT_HOOK,
        lifecycle_transition="autoscaling:EC2_INSTANCE_LAUNCHING",
        default_result="ABANDON",
        heartbeat_timeout=round(BOOT_S),
    )


def _roll() -> aws.autoscaling.GroupInstanceRefreshArgs:
    return aws.autoscaling.GroupInstanceRefreshArgs(
        strategy="Rolling",
        preferences=aws.autoscaling.GroupInstanceRefreshPreferencesArgs(
            min_healthy_percentage=HEALTHY_MIN,
            max_healthy_percentage=HEALTHY_MAX,
            instance_warmup=str(WARMUP_S),
            skip_matching=True,
        ),
    )


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
