"""Cloud name → the package that deploys to it, imported only when asked for."""

from importlib import import_module
from typing import Protocol, cast

from infra.clouds.outputs import Deployment
from infra.plan.facts import UNSEEN, Facts
from infra.plan.plan import Plan
from infra.plan.spec import StackSpec
from runtime.errors import Refused

PACKAGES = {"local": "infra.clouds.local.deploy", "aws": "infra.clouds.aws.deploy"}


class Cloud(Protocol):
    """What each cloud's `deploy` module has."""

    def deploy(self, plan: Plan, project: str, stack: str) -> Deployment:
        """Declare all resources of the plan."""


def cloud(name: str) -> Cloud:
    """The cloud of that name; raises Refused if there is none yet."""
    package = PACKAGES.get(name)
    if package is None:
        raise Refused(
            f"atoll:cluster.cloud: found {name}, which this version can plan and price, but not "
            f"deploy to yet; allowed {', '.join(PACKAGES)}; choose one of these"
        )
    return cast("Cloud", import_module(package))


def look(spec: StackSpec) -> Facts:
    """What is known of the place before the plan decides."""
    if spec.cluster.cloud != "local":
        return UNSEEN  # machines and prices stand in tables
    from infra.clouds.local.facts import local_facts

    return local_facts(spec)
