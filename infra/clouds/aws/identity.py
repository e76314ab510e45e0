"""One role per pool, and the key of the endpoint."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import Output, Resource

from infra.clouds.aws.place import Place
from infra.clouds.aws.rights import SESSION_POLICY, assume_policy, node_policy
from infra.clouds.aws.stores import Bucket
from infra.clouds.resources import ApiKey
from infra.plan.names import Role


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What a pool's machines are started with."""

    profile_arn: Output[str]
    rights: Resource  # the last of its parts


def make_identities(
    roles: tuple[Role, ...], buckets: Mapping[str, Bucket], log_group: Resource, place: Place
) -> dict[Role, Identity]:
    """By role of the pool. The log group stands before them, and so before any node."""
    return {role: _identity(role, buckets, log_group, place) for role in roles}


def make_api_key(place: Place) -> ApiKey:
    """The endpoint's key, drawn by the kit's own provider."""
    return ApiKey("api-key", {"stack_id": place.stack_id}, place.after_ours())


def _identity(
    role: Role, buckets: Mapping[str, Bucket], log_group: Resource, place: Place
) -> Identity:
    name = place.name(role)
    made = aws.iam.Role(
        role,
        name=name,
        path=place.path(),
        assume_role_policy=assume_policy("ec2.amazonaws.com"),
        tags=place.tags(role),
        opts=place.after(),
    )
    names = Output.all(**{store: bucket.name for store, bucket in buckets.items()})
    rights = aws.iam.RolePolicy(
        role,
        name=name,
        role=made.name,
        policy=Output.all(names, place.group_arn(role), place.logs_arn()).apply(
            lambda a: node_policy(role, *a)
        ),
        opts=place.after(log_group),
    )
    aws.iam.RolePolicyAttachment(
        role, role=made.name, policy_arn=SESSION_POLICY, opts=place.after()
    )
    profile = aws.iam.InstanceProfile(
        role,
        name=name,
        path=place.path(),
        role=made.name,
        tags=place.tags(role),
        opts=place.after(rights),
    )
    return Identity(profile_arn=profile.arn, rights=profile)
