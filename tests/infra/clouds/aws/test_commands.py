"""`atoll` on a stack in AWS, as a person and as a program see it."""

import io
import json
from datetime import UTC, datetime, timedelta

import boto3  # type: ignore[import-untyped]
import pytest

from infra.checkout import write_marker
from infra.cli.clock import real_clock
from infra.cli.deployer import Deployer
from infra.cli.down import down
from infra.cli.main import main
from infra.cli.screen import Screen, console_on
from infra.plan.limits import BOOT_S
from tests.infra.clouds.aws.interceptor import Interceptor
from tests.infra.clouds.aws.planted import (
    MACHINE,
    OURS,
    REGION,
    Stack,
    plant_network,
    plant_pool,
    plant_stores,
)
from tests.infra.clouds.aws.standing import ENDPOINT, Standing

STRANGER = "0badc0de"
NAMED = ["--cloud", "aws", "--region", REGION]
ON_AWS = ["--stack", "aws-small"]
Said = pytest.CaptureFixture[str]


def test_status_tells_machines_and_why_one_could_not_boot(standing: Standing, capsys: Said) -> None:
    standing.make_balancer()
    replica, silent = standing.machines("replica")
    standing.say(f"replica-{replica}", "replica", state="ready", beat=3, port=8000, pid=77)
    standing.say("training-i-0fa11e", state="failed", why="boot: bundle: line 95: status 1: gone")

    assert main(["status", *ON_AWS, "--json"]) == 0

    shown = json.loads(capsys.readouterr().out)
    nodes = {node["node"]: node for node in shown["nodes"]}
    assert shown["endpoint_url"] == ENDPOINT
    assert nodes[f"replica-{replica}"]["state"] == "ready"
    assert nodes[f"replica-{silent}"]["state"] == "starting"
    assert nodes["training-i-0fa11e"]["why"] == "boot: bundle: line 95: status 1: gone"
    assert {pool["pool"]: pool["wanted"] for pool in shown["pools"]} == {
        "gateway": 1,
        "replica": 2,
        "training": 0,
    }


def test_a_run_is_claimed_timed_and_given_its_machines_at_once(
    standing: Standing, capsys: Said
) -> None:
    assert main(["runs", "start", *ON_AWS, "--json"]) == 0

    run = json.loads(capsys.readouterr().out)["run"]
    open_run = standing.log().state().open_run
    assert open_run is not None
    assert open_run.run == run
    assert set(standing.timers()) == {f"dead-man-training-{run}"}
    assert (standing.wanted(), len(standing.machines("training"))) == (2, 2)

    assert main(["runs", "start", *ON_AWS]) == 1
    assert f"atoll runs stop {run} --stack aws-small" in capsys.readouterr().err

    assert main(["runs", "stop", run, *ON_AWS]) == 0
    assert standing.log().state().open_run is None
    assert (standing.wanted(), standing.timers()) == (0, {})


def test_a_run_without_its_timer_is_not_started(
    standing: Standing, interceptor: Interceptor, capsys: Said
) -> None:
    interceptor.refuse("scheduler.CreateSchedule", "AccessDeniedException", status=403)

    assert main(["runs", "start", *ON_AWS]) == 1

    assert "allow scheduler:CreateSchedule" in capsys.readouterr().err
    state = standing.log().state()
    assert state.open_run is None
    assert [run.outcome for run in state.runs] == ["failed"]
    assert standing.wanted() == 0


def test_a_run_whose_machines_have_had_their_time_is_closed_by_the_next(
    standing: Standing,
) -> None:
    long_ago = datetime.now(UTC) - timedelta(seconds=BOOT_S + 60)
    assert standing.log().claim("r1", long_ago)

    assert main(["runs", "start", *ON_AWS]) == 0

    assert [run.outcome for run in standing.log().state().runs] == ["failed", None]


def test_a_reclaim_names_the_other_way(standing: Standing, capsys: Said) -> None:
    [instance] = standing.machines("gateway")

    assert main(["reclaim", f"gateway-{instance}", *ON_AWS]) == 1

    assert f"--instance-ids {instance}" in capsys.readouterr().err


def test_without_credentials_it_is_said_in_one_line_how_to_give_some(
    aws: boto3.Session, standing: Standing, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    del aws
    monkeypatch.undo()
    monkeypatch.setenv("ATOLL_HOME", str(standing.home))
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)

    for words in (["status"], ["runs", "start"], ["sweep"]):
        assert main([*words, *ON_AWS]) == 1

        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("atoll: AWS credentials: found none; ")


def test_credentials_that_are_over_are_told_by_every_command(
    standing: Standing, interceptor: Interceptor, capsys: Said
) -> None:
    interceptor.refuse("s3.HeadBucket", "400")
    for call in ("sts.GetCallerIdentity", "resourcegroupstaggingapi.GetResources"):
        interceptor.refuse(call, "ExpiredToken", status=403)

    for words in (["status"], ["runs", "start"], ["sweep"]):
        assert main([*words, *ON_AWS]) == 1

        [line] = capsys.readouterr().err.splitlines()
        assert "ExpiredToken" in line
        assert "log in again" in line
    assert standing.log().state().runs == ()


@pytest.mark.slow
def test_a_sweep_needs_no_marker_and_leaves_a_stranger_alone(
    stack: Stack, standing: Standing, capsys: Said
) -> None:
    write_marker(standing.marker.model_copy(update={"stack": "another", "stack_id": STRANGER}))
    stranger = Stack(session=stack.session, id=STRANGER, groups=stack.groups)
    for one in (Stack(session=stack.session, id="c0ffee00", groups=stack.groups), stranger):
        plant_network(one)
        plant_pool(one)
        plant_stores(one)
    ours = ["sweep", "--stack", "gone", *NAMED, "--id", "c0ffee00"]

    assert main([*ours, "--json"]) == 1
    told = capsys.readouterr()
    shown = json.loads(told.out)
    assert all(STRANGER not in item["where"] for item in shown["left"])
    prices = {item["kind"]: item["usd_per_hour"] for item in shown["left"]}
    assert prices["instance"] > 0
    assert prices["subnet"] == 0
    assert prices["bucket"] is None
    known = [item["usd_per_hour"] or 0.0 for item in shown["left"]]
    assert shown["usd_per_hour"] == pytest.approx(sum(known))
    assert f"stack gone: {len(shown['left'])} left, " in told.err
    assert "2 of unknown price or paid by use" in told.err

    assert main([*ours, "--delete"]) == 1
    assert "nothing was removed" in capsys.readouterr().err

    assert main([*ours, "--delete", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left"] == []
    assert main(["sweep", "--stack", "another", "--json"]) == 1
    assert {MACHINE} == {machine["InstanceType"] for machine in running(stranger)}
    assert len(running(stranger)) == 2
    assert standing.machines("replica")


def running(stack: Stack) -> list[dict[str, str]]:
    """The machines that a stack pays for."""
    told = stack.client("ec2").describe_instances(
        Filters=[
            {"Name": "tag:atoll:stack-id", "Values": [stack.id]},
            {"Name": "instance-state-name", "Values": ["running"]},
        ]
    )
    return [machine for one in told["Reservations"] for machine in one["Instances"]]


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--cloud", "aws"], "found a part of --cloud, --region and --id; allowed all or none"),
        (["--cloud", "gcp", "--region", REGION, "--id", OURS], "found gcp; allowed aws"),
        ([*NAMED, "--id", ""], "allowed 8 to 16 digits"),
        ([*NAMED, "--id", "a1b2"], "allowed 8 to 16 digits"),
        (["--cloud", "aws", "--region", "Frankfurt", "--id", OURS], "such as eu-central-1"),
    ],
)
def test_a_sweep_of_what_is_no_stack_is_refused(words: list[str], told: str, capsys: Said) -> None:
    assert main(["sweep", *words]) == 1

    assert told in capsys.readouterr().err


class PlayedEngine(Deployer):
    """A `destroy` that leaves the stores."""

    def __init__(self, standing: Standing, screen: Screen) -> None:
        super().__init__(standing.name, screen)
        self.standing = standing

    def destroy(self) -> bool:
        """All pools are gone, and the marker."""
        groups = self.standing.stack.client("autoscaling")
        for pool in ("training", "replica", "gateway"):
            groups.delete_auto_scaling_group(
                AutoScalingGroupName=self.standing.stack.name(pool), ForceDelete=True
            )
        for path in self.standing.home.glob("stacks/*/*"):
            path.unlink()
        return True


def test_down_cancels_a_run_by_force_and_tells_what_is_left(standing: Standing) -> None:
    assert main(["runs", "start", *ON_AWS]) == 0
    stream, screen = io.StringIO(), Screen()
    screen.console = console_on(stream)

    shape = down(standing.home, PlayedEngine(standing, screen), screen, real_clock(), True)

    assert [run.outcome for run in standing.log().state().runs] == ["cancelled"]
    left = {(item.kind, item.id) for item in shape.left}
    assert ("bucket", f"atoll-{OURS}-control") in left
    assert ("schedule-group", f"atoll-{OURS}") in left
    assert not {"instance", "autoscaling-group", "schedule"} & {kind for kind, _ in left}
    assert f"stack aws-small: {len(left)} left, " in stream.getvalue().splitlines()[-1]
