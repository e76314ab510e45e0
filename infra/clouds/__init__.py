"""Cloud name → the package that deploys to it, imported only when asked for."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from infra.bundle import texts_once
from infra.clouds.local.facts import local_facts
from infra.clouds.outputs import Deployment
from infra.plan.facts import UNSEEN, Facts
from infra.plan.plan import Plan
from infra.plan.spec import StackSpec
from infra.plan.training import STDLIB
from runtime.errors import Refused
from runtime.node_spec import STORED_TEXTS

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
    is_local = spec.cluster.cloud == "local"
    if not is_local and spec.training.data == STDLIB:
        return UNSEEN
    facts = local_facts(spec)
    if is_local or facts.data is None or facts.data_fault is not None:
        return facts
    try:
        sha256 = texts_once(Path(facts.data)).sha256
    except Refused as fault:
        return replace(facts, data_fault=str(fault).removeprefix("training.data: "))
    return replace(facts, data=f"{STORED_TEXTS}{sha256}", texts=facts.data)
