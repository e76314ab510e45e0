"""[mistakes], [policy] and [price]: what is said of a stack on AWS before anything is made."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from cloudsplaining.scan.policy_document import PolicyDocument

from infra.cli.planned import decide
from infra.plan.boot import BODY
from infra.plan.money import Cost
from tests.benchmarks.figures import Figure, Goal, figure, run
from tests.conftest import ROOT
from tests.doubles.rented_clone import EXAMPLES
from tests.infra.clouds.aws.test_policies_linted import (
    ACCEPTED,
    GRANTING,
    POLICIES,
    WHOLE,
    findings,
)
from tests.infra.plan.test_boot_linted import shellcheck
from tests.infra.plan.test_pools import faults, refused

BOOT = ROOT / "tests" / "golden" / "boot-aws.sh"
MISTAKES_MIN = 40


def measure(is_quick: bool) -> Sequence[Figure]:
    """All of it takes seconds."""
    del is_quick
    return [*_mistakes(), *_policy(), *(cost for stack in EXAMPLES for cost in _price(stack))]


def _mistakes() -> Iterator[Figure]:
    caught = sum(_is_caught(*case.values) for case in faults())  # type: ignore[attr-defined]
    total = len(list(faults()))
    yield figure("wrong stack files caught at preview, each with its message", "", [caught])
    yield figure("wrong stack files not caught", "", [total - caught], Goal(exactly=0))
    short = max(0, MISTAKES_MIN - caught)
    yield figure(f"short of {MISTAKES_MIN} of them", "", [short], Goal(exactly=0))


def _is_caught(config: dict[str, object], at: str, found: str, allowed: str) -> bool:
    told = refused(config)
    return [fault.at for fault in told] == [f"atoll:{at}"] and all(
        found in fault.found and allowed in fault.allowed and fault.do for fault in told
    )


def _policy() -> Iterator[Figure]:
    grave = {key for name in sorted(set(POLICIES) - {WHOLE}) for key in findings(name)}
    yield figure(
        "parliament: grave findings that no reason accepts",
        "",
        [len(grave - set(ACCEPTED))],
        Goal(exactly=0),
    )
    yield figure("parliament: grave findings accepted, each with its reason", "", [len(ACCEPTED)])
    growing = 0
    for name in GRANTING:
        document = PolicyDocument(json.loads(POLICIES[name]))
        growing += len(document.allows_privilege_escalation)
        growing += len(document.allows_data_exfiltration_actions)
        growing += len(document.permissions_management_without_constraints)
        growing += len(document.service_wildcard)
    yield figure("cloudsplaining: rights that grow or let data out", "", [growing],
                 Goal(exactly=0))  # fmt: skip
    said = sum(len(shellcheck(path.read_text()).splitlines()) for path in (BOOT, Path(BODY)))
    yield figure("shellcheck: lines about the boot text", "", [said], Goal(exactly=0))


def _price(stack: str) -> Iterator[Figure]:
    price = decide(stack)[1].price
    for cost in price.costs:
        yield figure(f"{stack}: {cost.part}, {cost.what}", f"USD per {cost.per}", _range(cost))
    most = price.usd_per_hour(is_training=True)[1]
    yield figure(f"{stack}: at most, while it trains, by {price.note}", "USD per hour", [most])


def _range(cost: Cost) -> list[float]:
    return [cost.low_usd] if cost.low_usd == cost.high_usd else [cost.low_usd, cost.high_usd]


if __name__ == "__main__":
    run("aws_checks", measure)
