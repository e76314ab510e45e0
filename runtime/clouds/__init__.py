"""How a node reaches the pool that it is part of: one module per cloud.

A pool's size is run-time state: who starts a run makes it grow, nodes make it rest at the end.
"""

from typing import Protocol

from runtime.clouds.local import LocalPool
from runtime.errors import Refused
from runtime.node_spec import NodeSpec

__all__ = ["LocalPool", "Pool", "pool_of"]


class Pool(Protocol):
    """A group of like nodes of which the cloud holds as many as it was told."""

    def set_size(self, size: int) -> None:
        """Grow or shrink; raises Unavailable or Refused."""
        ...


def pool_of(spec: NodeSpec) -> Pool:
    """The pool that a node is part of; raises Refused for a cloud that is not there yet."""
    if spec.cloud == "local":
        return LocalPool(spec.stack_id, spec.pool)
    raise Refused(f"cloud: found {spec.cloud!r}; allowed local; pools elsewhere come later")
