"""Limits of the operator's side, and how they lean on those of the nodes."""

from runtime.limits import CHILD_STOP_S, DRAIN_NOTICE_S, READY_CHECK_S, READY_CHECKS_DOWN

REPLICA_PORT = 8000
GATEWAY_PORT = 8080
# A balancer on all addresses of the machine would meet the stack's own processes on these.
PORTS_USED = (REPLICA_PORT, GATEWAY_PORT)
STOP_MARGIN_S = 2 * CHILD_STOP_S
DRAIN_S_MAX = 3600.0  # ALB, Cloud Load Balancing and Application Gateway wait no longer

assert len(set(PORTS_USED)) == len(PORTS_USED)
assert DRAIN_NOTICE_S > READY_CHECK_S * READY_CHECKS_DOWN, "the balancer must see it leave first"


def stop_s(drain_s: float) -> float:
    """From SIGTERM to SIGKILL for a node that may hold open requests."""
    return DRAIN_NOTICE_S + drain_s + STOP_MARGIN_S
