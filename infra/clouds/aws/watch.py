"""What a stack is watched by: a log group, two alarms and a budget; mail to whom the stack names.

**No gateway**: for five minutes the balancer had none that was ready. No word of any counts as
none. A fresh stack is in this alarm a few minutes after its `up`, and until its first model is
live: gateways are not ready before, and whoever asks gets no answer indeed. Its end is told, too.
**Errors**: the balancer itself had to answer with a 5xx, as when no gateway is ready or one breaks
off. No word of them is none of them.

An address is asked by AWS first, and hears of alarms once it has agreed. An address that never
does goes with the topic, or by itself after two days. Budgets need no agreement.
"""

from collections.abc import Iterator

import pulumi_aws as aws
from pulumi import Output, Resource

from infra.clouds.aws.balancer import Balancer
from infra.clouds.aws.place import Place
from infra.clouds.aws.rights import log_group_name
from infra.clouds.aws.tags import TAG_ID
from infra.plan.spec import BudgetSpec

LOG_DAYS = 14
SILENT_MINUTES = 5
ERRORS, ERRORS_S = 5, 300
METRICS = "AWS/ApplicationELB"
# Of a month's limit, in percent: what is spent, and what AWS foresees by the month's end.
SPENT_PERCENT, FORESEEN_PERCENT = 80, 100


def make_log_group(place: Place) -> aws.cloudwatch.LogGroup:
    """Where nodes ship their lines to; they may make streams in it, and no group."""
    return aws.cloudwatch.LogGroup(
        "logs",
        name=place.stack_id.apply(log_group_name),
        retention_in_days=LOG_DAYS,
        tags=place.tags("logs"),
        opts=place.after(),
    )


def make_watch(budget: BudgetSpec, balancer: Balancer, place: Place) -> list[Resource]:
    """Alarms, and whatever the stack file asks for beside."""
    actions: list[Output[str]] = []
    made: list[Resource] = []
    if budget.alert_emails:
        topic = aws.sns.Topic(
            "alerts", name=place.name("alerts"), tags=place.tags("alerts"), opts=place.after()
        )
        actions.append(topic.arn)
        made += _subscriptions(budget.alert_emails, topic, place)
    made += _alarms(balancer, actions, place)
    if budget.max_usd_per_month is not None:
        made.append(_budget(budget.max_usd_per_month, budget.alert_emails, place))
    return made


def _subscriptions(
    addresses: tuple[str, ...], topic: aws.sns.Topic, place: Place
) -> Iterator[Resource]:
    """Named by their addresses: one that comes or goes lets nobody else be asked again."""
    for address in addresses:
        yield aws.sns.TopicSubscription(
            f"alerts-{address}",
            topic=topic.arn,
            protocol="email",
            endpoint=address,
            opts=place.after(),
        )


def _alarms(balancer: Balancer, actions: list[Output[str]], place: Place) -> Iterator[Resource]:
    yield aws.cloudwatch.MetricAlarm(
        "no-gateway",
        name=place.name("no-gateway"),
        alarm_description=f"Stack {place.stack}: no gateway is ready. See: atoll status",
        namespace=METRICS,
        metric_name="HealthyHostCount",
        dimensions={
            "LoadBalancer": balancer.metrics_name,
            "TargetGroup": balancer.gateways_metrics_name,
        },
        # Each zone of the balancer tells a number of its own: the best of them.
        statistic="Maximum",
        period=60,
        evaluation_periods=SILENT_MINUTES,
        comparison_operator="LessThanThreshold",
        threshold=1,
        treat_missing_data="breaching",
        alarm_actions=actions,
        ok_actions=actions,
        tags=place.tags("alarm"),
        opts=place.after(),
    )
    yield aws.cloudwatch.MetricAlarm(
        "errors",
        name=place.name("errors"),
        alarm_description=f"Stack {place.stack}: the balancer answers with errors of its own.",
        namespace=METRICS,
        metric_name="HTTPCode_ELB_5XX_Count",
        dimensions={"LoadBalancer": balancer.metrics_name},
        statistic="Sum",
        period=ERRORS_S,
        evaluation_periods=1,
        comparison_operator="GreaterThanOrEqualToThreshold",
        threshold=ERRORS,
        treat_missing_data="notBreaching",
        alarm_actions=actions,
        ok_actions=actions,
        tags=place.tags("alarm"),
        opts=place.after(),
    )


def _budget(usd: float, addresses: tuple[str, ...], place: Place) -> Resource:
    """It counts by the stack's tag, once that is activated as a cost allocation tag."""
    return aws.budgets.Budget(
        "budget",
        name=place.name("budget"),
        budget_type="COST",
        time_unit="MONTHLY",
        limit_amount=f"{usd:.2f}",
        limit_unit="USD",
        cost_filters=[
            aws.budgets.BudgetCostFilterArgs(
                name="TagKeyValue", values=[place.stack_id.apply(cost_tag)]
            )
        ],
        notifications=[
            aws.budgets.BudgetNotificationArgs(
                comparison_operator="GREATER_THAN",
                notification_type=kind,
                threshold=percent,
                threshold_type="PERCENTAGE",
                subscriber_email_addresses=list(addresses),
            )
            for kind, percent in (("ACTUAL", SPENT_PERCENT), ("FORECASTED", FORESEEN_PERCENT))
            if addresses
        ],
        tags=place.tags("budget"),
        opts=place.after(),
    )


def cost_tag(stack_id: str) -> str:
    """A tag that users give, and its value, as Budgets writes both."""
    return f"user:{TAG_ID}${stack_id}"
