"""What a stack may cost, and who is told → their faults: over a cap, or of an unknown price."""

from collections import Counter
from collections.abc import Iterator

from infra.plan.fault import Fault
from infra.plan.money import HOURS_A_MONTH, Price, Unpriced, price, told
from infra.plan.settings import at
from infra.plan.spec import BudgetSpec, StackSpec


def budget_faults(spec: StackSpec) -> Iterator[Fault]:
    """Of a stack whose machines are known in its region."""
    try:
        cost = price(spec)
    except Unpriced as fault:
        yield Fault(
            at=at("cluster.region"),
            beside=(at("pools"),),
            found=f"{spec.cluster.region}, where the price of {fault} is not known",
            allowed="what infra/plan/prices has a price for",
            do="choose another region, machine or capacity, or add the price with its source",
        )
    else:
        yield from _cap_faults(spec.budget, cost)
        yield from _month_faults(spec.budget, cost)


def alert_faults(budget: BudgetSpec) -> Iterator[Fault]:
    """One who would be asked twice."""
    counted = Counter(address.lower() for address in budget.alert_emails)
    twice = sorted(address for address, count in counted.items() if count > 1)
    if twice:
        yield Fault(
            at=at("budget.alert_emails"),
            found=f"{', '.join(twice)} more than once",
            allowed="each address once",
            do="remove the others",
        )


def budget_advice(budget: BudgetSpec) -> Iterator[str]:
    """What works, but tells nobody."""
    if budget.max_usd_per_month is not None and not budget.alert_emails:
        yield f"{at('budget.max_usd_per_month')}: nobody is warned; name budget.alert_emails"


def _month_faults(budget: BudgetSpec, cost: Price) -> Iterator[Fault]:
    """Runs come on top of what a stack costs at rest: how many, nobody knows."""
    hour = cost.usd_per_hour(is_training=False)
    month = (hour[0] * HOURS_A_MONTH, hour[1] * HOURS_A_MONTH)
    if budget.max_usd_per_month is not None and month[1] > budget.max_usd_per_month:
        yield Fault(
            at=at("budget.max_usd_per_month"),
            beside=(at("pools"), at("serving")),
            found=f"{budget.max_usd_per_month:g} for a stack of {told(month)} a month at rest, "
            f"{told(hour)} an hour for {HOURS_A_MONTH} h",
            allowed=f"{_up(month[1])} or more, and what its runs cost besides",
            do="raise it, or take fewer or cheaper machines",
        )


def _cap_faults(budget: BudgetSpec, cost: Price) -> Iterator[Fault]:
    hour, run = cost.usd_per_hour(is_training=True), cost.usd_per_run
    if budget.max_usd_per_hour is not None and hour[1] > budget.max_usd_per_hour:
        yield Fault(
            at=at("budget.max_usd_per_hour"),
            beside=(at("pools"),),
            found=f"{budget.max_usd_per_hour:g} for a stack of {told(hour)} an hour in training",
            allowed=f"{_up(hour[1])} or more",
            do="raise it, or take fewer or cheaper machines",
        )
    if budget.max_usd_per_run is not None and run[1] > budget.max_usd_per_run:
        yield Fault(
            at=at("budget.max_usd_per_run"),
            beside=(at("pools"), at("budget.run_hours")),
            found=f"{budget.max_usd_per_run:g} for runs of {told(run)} in {budget.run_hours:g} h",
            allowed=f"{_up(run[1])} or more",
            do="raise it, lower budget.run_hours, or take fewer or cheaper machines",
        )


def _up(usd: float) -> str:
    """Rounded so that the figure, written into the stack file, is enough."""
    return f"{usd + 0.005:.2f}"
