"""Cloud name → the package that deploys to it, imported only when asked for."""

from importlib import import_module
from typing import Protocol, cast

from infra.clouds.outputs import Deployment
from infra.plan.facts import Facts
from infra.plan.plan import Plan
from infra.plan.spec import StackSpec
from runtime.errors import Refused

PACKAGES = {"local": "infra.clouds.local.deploy"}


class Cloud(Protocol):
    """What each cloud's `deploy` module has."""

    def look(self, spec: StackSpec) -> Facts:
        """What the plan must know of the place before it decides. Changes nothing."""

    def deploy(self, plan: Plan, project: str, stack: str) -> Deployment:
        """Declare all resources of the plan."""


def cloud(name: str) -> Cloud:
    """The cloud of that name; raises Refused if there is none yet."""
    package = PACKAGES.get(name)
    if package is None:
        raise Refused(f"atoll:cluster.cloud: found {name!r}; allowed {', '.join(PACKAGES)}")
    return cast("Cloud", import_module(package))
