"""Take a node away as a cloud takes a spot machine: with notice, then at once."""

from infra.cli.shapes import ReclaimShape
from infra.clouds.view import StackView
from runtime.errors import Refused, Unavailable


def reclaim(view: StackView, node: str, after_s: float) -> ReclaimShape:
    """Have the keeper of its pool give a node notice; raises Refused, with the nodes there are."""
    running: list[str] = []
    for pool in view.pools:
        held = view.held(pool.pool)
        up = [n.node for n in held.nodes if n.is_up] if held else []
        if node in up:
            try:
                view.reclaim(pool.pool, node, after_s)
            except Unavailable as fault:
                raise Refused(f"node {node}: no notice given: {fault}; run: make up") from fault
            return ReclaimShape(node=node, pool=pool.pool, after_s=after_s)
        running += up
    raise Refused(f"node {node}: found none that runs; allowed {', '.join(running) or 'none'}")
