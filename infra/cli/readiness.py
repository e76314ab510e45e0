"""Wait until replicas and gateways serve a model version, and tell each that turns ready."""

from infra.cli.clock import Clock
from infra.cli.nodes import Seen, gateway_shapes, look, node_shapes, replica_shapes
from infra.cli.screen import GOOD, Screen
from infra.clouds.view import StackView
from runtime.errors import Unavailable

READY_S = 120.0  # from the live pointer, or the boot, to a first replica that serves it
OTHERS_S = 15.0  # and from there to the others; who comes later is not waited for
LOOK_S = 0.5


def wait_ready(
    view: StackView,
    digest: str,
    screen: Screen,
    clock: Clock,
) -> None:
    """Return once all replicas serve `digest` and a gateway is ready.

    One replica that does is enough after OTHERS_S. Raises Unavailable if none does in READY_S,
    and what its machine may take to boot.
    """
    started_s, first_s = clock.seconds(), None
    ready_s = READY_S + view.boot_s
    told: set[str] = set()
    while True:
        seen = look(view)
        serving, others, gateways = _stand(view, seen, digest)
        for node in sorted(serving - told):
            screen.line(f"replica {node} ready with {digest[:12]}", GOOD)
        told |= serving
        now_s = clock.seconds()
        if serving and gateways:
            first_s = now_s if first_s is None else first_s
            if not others or now_s - first_s >= OTHERS_S:
                return
        elif now_s - started_s >= ready_s:
            pool = "gateway" if serving else "replica"
            raise Unavailable(f"no {pool} was ready after {ready_s:.0f} s; see {view.logs(pool)}")
        clock.wait(max(LOOK_S, view.look_s))


def is_ready(view: StackView, digest: str) -> bool:
    """Whether all replicas serve `digest` and all gateways are ready, now."""
    seen = look(view)
    serving, others, gateways = _stand(view, seen, digest)
    return bool(serving and gateways) and not others


def _stand(view: StackView, seen: Seen, digest: str) -> tuple[set[str], set[str], set[str]]:
    """Replicas that serve the version, replicas that do not, gateways that are ready."""
    nodes = node_shapes(view, seen)
    replicas = replica_shapes(seen, nodes)
    serving = {r.node for r in replicas if r.state == "ready" and r.model == digest}
    ready = {g.node for g in gateway_shapes(seen, nodes) if g.state == "ready"}
    return serving, {r.node for r in replicas} - serving, ready
