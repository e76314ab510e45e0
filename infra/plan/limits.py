"""Limits of the operator's side, and how they lean on those of the nodes."""

from runtime.limits import CHILD_STOP_S, DRAIN_NOTICE_S, READY_CHECK_S, READY_CHECKS_DOWN

REPLICA_PORT = 8000
GATEWAY_PORT = 8080
# A balancer on all addresses of the machine would meet the stack's own processes on these.
PORTS_USED = (REPLICA_PORT, GATEWAY_PORT)
STOP_MARGIN_S = 2 * CHILD_STOP_S
RENTED_NOTICE_S = 15.0  # a rented balancer looks every 5 s at best
BOOT_S = 1500.0  # a rented machine: found, started, and its boot text (1200 s) run
DRAIN_S_MAX = 3600.0  # ALB, Cloud Load Balancing and Application Gateway wait no longer

assert len(set(PORTS_USED)) == len(PORTS_USED)
assert DRAIN_NOTICE_S > READY_CHECK_S * READY_CHECKS_DOWN, "the balancer must see it leave first"


def stop_s(drain_s: float, notice_s: float = DRAIN_NOTICE_S) -> float:
    """From SIGTERM to SIGKILL for a node that may hold open requests."""
    return notice_s + drain_s + STOP_MARGIN_S


def boot_s(*, is_rented: bool) -> float:
    """That a machine may take until its node speaks; a process on one machine speaks at once."""
    return BOOT_S if is_rented else 0.0
