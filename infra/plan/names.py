"""Names and addresses of what a stack is made of, from its id. Valid on every cloud.

Two stacks on one machine share no address unless two bytes of their random ids agree; then the
second finds its ports taken and says so.
"""

from typing import Literal

Role = Literal["training", "replica", "gateway"]

OFFSETS: dict[Role, int] = {"training": 10, "replica": 100, "gateway": 200}
NODES_MAX = 50  # of one pool on one machine: offsets must not meet
BALANCER_OFFSET = 1
RENTED_NAME_MAX = 32  # an ALB's and its target group's; a bucket's and a role's may be longer

assert all(b - a >= NODES_MAX for a, b in [(10, 100), (100, 200)])
assert OFFSETS["gateway"] + NODES_MAX <= 254


def node_name(pool: str, index: int) -> str:
    """Name of a node, unique in its stack."""
    return f"{pool}-{index}"


def rented_name(stack_id: str, part: str = "") -> str:
    """Name of a thing on a rented cloud, where other stacks and strangers name theirs too.

    Lower-case letters, digits and dashes, which all of them take. It carries the stack's random id
    so that a second clone, or a stack that was made anew, never meets the first one's.
    """
    name = "-".join(filter(None, ("atoll", stack_id, part)))
    assert len(name) <= RENTED_NAME_MAX, name
    return name


def local_subnet(stack_id: str) -> str:
    """First three bytes of all addresses of a stack on one machine, in 127.2.0.0 to 127.253.255.0.

    127.0 and 127.1 stay free for everybody else's loopback services.
    """
    first, second = bytes.fromhex(stack_id)[:2]
    return f"127.{2 + first % 252}.{second}"


def node_address(stack_id: str, role: Role, index: int) -> str:
    """Address of a node on one machine."""
    assert 0 <= index < NODES_MAX
    return f"{local_subnet(stack_id)}.{OFFSETS[role] + index}"


def balancer_address(stack_id: str) -> str:
    """Address that clients connect to, unless the stack file names another."""
    return f"{local_subnet(stack_id)}.{BALANCER_OFFSET}"
