"""Whether an account can carry a stack, looked at before anything is made. May be skipped."""

from collections.abc import Collection

from infra.clouds.checks import Check
from infra.plan.plan import Plan
from infra.plan.spec import CloudName, StackSpec

CLOUDS: tuple[CloudName, ...] = ("aws",)  # that can be looked at


def preflight(spec: StackSpec, plan: Plan, own: Collection[str]) -> list[Check]:
    """Look at everything that the stack needs of its account, and change nothing.

    `own`: ids of the stack, if it stands already; what these hold, it need not get. Never raises
    for what it finds.
    """
    assert plan.cloud in CLOUDS, "refused before"
    from infra.clouds.aws.preflight import preflight as look_at_aws
    from infra.clouds.aws.session import open_session

    return look_at_aws(open_session, spec, plan, own)
