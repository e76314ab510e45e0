"""What each role of node may do in AWS: its own keys of its own stores, and no more.

Pure: names in, policy text out. Actions and conditions as in the Service Authorization Reference
(read 2026-11).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.plan.names import Role
from infra.plan.spec import StoreRole

# Session Manager instead of an open port: AWS's own list of what its agent needs.
SESSION_POLICY = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"

Statement = Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """Keys of a store, as prefixes; an empty prefix is all of it."""

    store: StoreRole
    reads: Sequence[str] = ()
    writes: Sequence[str] = ()
    deletes: Sequence[str] = ()


ALL = ("",)
# Everybody reads the runtime and what is decided; presence is written by its own pool only.
ACCESS: Mapping[Role, Sequence[Access]] = {
    "training": (
        Access(store="bundle", reads=ALL),
        Access(
            store="control",
            reads=ALL,
            writes=("nodes/training-", "clock/training-", "pools/", "runs/", "models/"),
        ),
        Access(store="data", reads=ALL, writes=ALL, deletes=ALL),
        Access(store="checkpoints", reads=ALL, writes=ALL, deletes=ALL),
        Access(store="models", reads=ALL, writes=ALL, deletes=ALL),
    ),
    "replica": (
        Access(store="bundle", reads=ALL),
        Access(store="control", reads=ALL, writes=("nodes/replica-",)),
        Access(store="models", reads=ALL),
    ),
    "gateway": (
        Access(store="bundle", reads=ALL),
        Access(store="control", reads=ALL, writes=("nodes/gateway-",)),
    ),
}
# What a node asks of its group: to rest, to leave without a successor, to count as started.
ORDERS: Mapping[Role, Sequence[str]] = {
    "training": ("SetDesiredCapacity", "TerminateInstanceInAutoScalingGroup"),
    "replica": ("CompleteLifecycleAction",),
    "gateway": ("CompleteLifecycleAction",),
}
LOGS = ("CreateLogStream", "PutLogEvents")  # all roles, in the stack's own group


def assume_policy(service: str) -> str:
    """Who may take a role: a service of AWS, and nobody else."""
    return _text(
        [
            {
                "Effect": "Allow",
                "Principal": {"Service": service},
                "Action": "sts:AssumeRole",
            }
        ]
    )


def node_policy(role: Role, buckets: Mapping[str, str], group_arn: str, logs_arn: str) -> str:
    """Rights of a pool's nodes, in its stores, its Auto Scaling group and the stack's logs."""
    statements = [statement for access in ACCESS[role] for statement in _of_store(access, buckets)]
    actions = [f"autoscaling:{action}" for action in ORDERS[role]]
    logs = [f"logs:{action}" for action in LOGS]
    return _text(
        [*statements, _allow("Group", actions, [group_arn]), _allow("Logs", logs, [logs_arn])]
    )


def timer_policy(group_arn: str) -> str:
    """The timer makes one pool grow and shrink."""
    return _text([_allow("Size", ["autoscaling:SetDesiredCapacity"], [group_arn])])


def tls_only_policy(bucket_arn: str) -> str:
    """Of a bucket: who comes without TLS is refused, whatever else would let them in."""
    return _text(
        [
            {
                "Sid": "TlsOnly",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [bucket_arn, f"{bucket_arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ]
    )


def group_arn(region: str, account: str, group: str) -> str:
    """Of an Auto Scaling group by its name; its own id is drawn when it is made."""
    return f"arn:aws:autoscaling:{region}:{account}:autoScalingGroup:*:autoScalingGroupName/{group}"


def log_group_name(stack_id: str) -> str:
    """Of the group that a stack's nodes write to: a sweep looks under this path."""
    return f"/atoll/{stack_id}"


def logs_arn(region: str, account: str, stack_id: str) -> str:
    """Of the streams in that group."""
    return f"arn:aws:logs:{region}:{account}:log-group:{log_group_name(stack_id)}:*"


def _of_store(access: Access, buckets: Mapping[str, str]) -> list[Statement]:
    arn, name = f"arn:aws:s3:::{buckets[access.store]}", access.store.capitalize()
    statements = [_allow(f"{name}List", ["s3:ListBucket"], [arn])]
    for verb, keys, actions in (
        ("Read", access.reads, ["s3:GetObject"]),
        ("Write", access.writes, ["s3:PutObject", "s3:AbortMultipartUpload"]),
        ("Delete", access.deletes, ["s3:DeleteObject"]),
    ):
        if keys:
            statements.append(_allow(f"{name}{verb}", actions, [f"{arn}/{key}*" for key in keys]))
    return statements


def _allow(sid: str, actions: Sequence[str], resources: Sequence[str]) -> Statement:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}


def _text(statements: Sequence[Statement]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})
