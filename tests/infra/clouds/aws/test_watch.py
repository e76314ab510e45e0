"""Who is told of what: nobody without an address, and each address of all that goes wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from infra.clouds.aws.rights import log_group_name, logs_arn
from infra.clouds.aws.watch import cost_tag
from tests.conftest import ROOT

# Importing a whole module of the SDK warns of each of its old classes.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

DECLARE_S = 120.0
STACK_ID = "5e1f0a2b"  # of what is declared
EMAILS = ["ops@example.org", "ml+atoll@example.org"]
TOPIC = f"arn:aws:x:::atoll-{STACK_ID}-alerts"

Declared = dict[tuple[str, str], dict[str, object]]  # class and name: inputs


def declared(folder: Path, **budget: object) -> Declared:
    """What watches the example stack with another budget."""
    content = yaml.safe_load((ROOT / "stacks" / "Pulumi.aws-cpu.yaml").read_text())
    content["config"]["atoll:budget"] = budget
    path = folder / "Pulumi.aws.yaml"
    path.write_text(yaml.safe_dump(content))
    ran = subprocess.run(
        [sys.executable, "-m", "tests.infra.policy.declare", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DECLARE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    modules = ("cloudwatch", "sns", "budgets")
    return {
        (kind.rpartition(":")[2], name): inputs
        for kind, name, inputs in found
        if kind.split(":")[1].split("/")[0] in modules
    }


@pytest.mark.slow
def test_without_a_budget_there_are_logs_and_alarms_and_nobody_is_written_to(
    tmp_path: Path,
) -> None:
    watch = declared(tmp_path)

    assert set(watch) == {
        ("LogGroup", "logs"),
        ("MetricAlarm", "no-gateway"),
        ("MetricAlarm", "errors"),
    }
    assert watch["LogGroup", "logs"]["name"] == f"/atoll/{STACK_ID}"
    for kind, name in watch:
        if kind == "MetricAlarm":
            assert not watch[kind, name].get("alarmActions")


@pytest.mark.slow
def test_each_address_hears_of_alarms_and_of_costs(tmp_path: Path) -> None:
    watch = declared(tmp_path, alert_emails=EMAILS, max_usd_per_month=1234.5)

    for name in ("no-gateway", "errors"):
        alarm = watch["MetricAlarm", name]
        assert alarm["alarmActions"] == alarm["okActions"] == [TOPIC]
    for address in EMAILS:
        listener = watch["TopicSubscription", f"alerts-{address}"]
        assert (listener["topic"], listener["protocol"]) == (TOPIC, "email")
        assert listener["endpoint"] == address
    budget = watch["Budget", "budget"]
    assert budget["name"] == f"atoll-{STACK_ID}-budget"
    assert (budget["limitAmount"], budget["limitUnit"]) == ("1234.50", "USD")
    assert budget["timeUnit"] == "MONTHLY"
    assert budget["costFilters"] == [{"name": "TagKeyValue", "values": [cost_tag(STACK_ID)]}]
    notifications = budget["notifications"]
    assert isinstance(notifications, list)
    assert [(one["notificationType"], one["threshold"]) for one in notifications] == [
        ("ACTUAL", 80),
        ("FORECASTED", 100),
    ]
    assert all(one["subscriberEmailAddresses"] == EMAILS for one in notifications)


def test_a_budget_counts_by_the_tag_that_everything_bears() -> None:
    assert cost_tag("5e1f0a2b") == "user:atoll:stack-id$5e1f0a2b"


def test_nodes_may_write_where_they_are_told_to() -> None:
    arn = logs_arn("eu-central-1", "123456789012", STACK_ID)

    assert arn == f"arn:aws:logs:eu-central-1:123456789012:log-group:{log_group_name(STACK_ID)}:*"
