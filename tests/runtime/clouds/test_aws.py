"""What only AWS has: sessions of its metadata, advice, and its services as moto emulates them."""

import logging
from collections.abc import Iterator
from datetime import timedelta

import boto3  # type: ignore[import-untyped]
import pytest
from moto.server import ThreadedMotoServer

from runtime.clouds.aws import AwsCloud, host
from runtime.clouds.cloud import Surroundings
from runtime.errors import Missing, Refused, Unavailable
from tests.doubles.aws_cloud import PLACE, FakeAws


@pytest.fixture
def aws() -> Iterator[FakeAws]:
    fake = FakeAws()
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    """Emulated services of AWS; they check no signature."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    address, port = server.get_host_and_port()
    yield f"http://{address}:{port}"
    server.stop()


def test_the_real_shapes_of_its_services_are_understood(aws: FakeAws, moto_url: str) -> None:
    keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "key"}
    at = {"endpoint_url": moto_url, "region_name": PLACE.region}
    boto3.client("ec2", **at, **keys).create_launch_template(
        LaunchTemplateName="training",
        LaunchTemplateData={"ImageId": "ami-12345678", "InstanceType": "t3.micro"},
    )
    groups = boto3.client("autoscaling", **at, **keys)
    groups.create_auto_scaling_group(
        AutoScalingGroupName=PLACE.group,
        MinSize=0,
        MaxSize=4,
        DesiredCapacity=2,
        LaunchTemplate={"LaunchTemplateName": "training"},
        AvailabilityZones=[f"{PLACE.region}a"],
    )
    store = boto3.client("secretsmanager", **at, **keys)
    store.create_secret(Name="text", SecretString="as text")
    store.create_secret(Name="bytes", SecretBinary=b"as bytes")
    cloud = AwsCloud(PLACE, metadata_url=aws.metadata.url, service_url=moto_url)

    cloud.set_size(0)
    cloud.set_size(0)

    [group] = groups.describe_auto_scaling_groups()["AutoScalingGroups"]
    assert group["DesiredCapacity"] == 0
    assert cloud.secret("text").get_secret_value() == "as text"
    assert cloud.secret("bytes").get_secret_value() == "as bytes"
    with pytest.raises(Missing, match="ResourceNotFoundException"):
        cloud.secret("nothing")


def test_a_size_beyond_the_groups_limits_is_refused_in_its_words(aws: FakeAws) -> None:
    with pytest.raises(Refused, match="above 4"):
        aws.cloud.set_size(9)


def test_a_rebalance_recommendation_is_advice_and_is_told_once(
    aws: FakeAws, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    aws.is_rebalance_advised = True

    assert [aws.cloud.notice() for _ in range(3)] == [None] * 3

    assert caplog.text.count("rebalance") == 1


def test_a_clock_that_is_wrong_by_hours_does_not_change_how_long_is_left(aws: FakeAws) -> None:
    ours = FakeAws().clock
    for hours in (-3, 3):
        ours.at = aws.clock.at
        ours.move(hours * 3600.0)
        cloud = AwsCloud(PLACE, metadata_url=aws.metadata.url, around=ours.around)
        aws.reclaim(100.0)

        notice = cloud.notice()

        assert notice is not None
        assert notice.left_s == 100.0
        assert (notice.deadline - ours.at).total_seconds() == 100.0


def test_a_time_at_the_end_of_the_calendar_is_a_notice_like_others(aws: FakeAws) -> None:
    aws.action = {"action": "stop", "time": "9999-12-31T23:59:59Z"}
    ahead = Surroundings(now=lambda: aws.clock.at + timedelta(hours=3))

    notice = AwsCloud(PLACE, metadata_url=aws.metadata.url, around=ahead).notice()

    assert notice is not None
    assert notice.left_s > 365 * 86400.0


@pytest.mark.parametrize("end", ["2026-11-25T13:00:00", "tomorrow", 10**18, None])
def test_credentials_without_an_end_that_is_one_are_unavailable(aws: FakeAws, end: object) -> None:
    aws.metadata.change("security-credentials/atoll-training", Expiration=end)

    with pytest.raises(Unavailable, match="no credentials"):
        aws.cloud.set_size(3)


def test_a_session_is_opened_once_and_again_when_it_is_over(aws: FakeAws) -> None:
    def sessions() -> int:
        return sum(asked.method == "PUT" for asked in aws.metadata.asked)

    aws.cloud.notice()
    aws.cloud.notice()
    assert sessions() == 1

    aws.expire_tokens()
    assert aws.cloud.notice() is None
    assert sessions() == 2


def test_without_an_answer_to_the_token_there_is_no_question_without_one(aws: FakeAws) -> None:
    aws.metadata.close()

    with pytest.raises(Unavailable, match="hop limit"):
        aws.cloud.notice()

    assert [asked.method for asked in aws.metadata.asked] == []


@pytest.mark.parametrize(
    "action",
    [
        {"action": "terminate"},
        {"action": "terminate", "time": "soon"},
        {"action": "terminate", "time": "2026-11-25T12:00:00"},
    ],
)
def test_an_action_without_a_time_that_is_one_is_unavailable(
    aws: FakeAws, action: dict[str, str]
) -> None:
    aws.action = action

    with pytest.raises(Unavailable, match="instance-action"):
        aws.cloud.notice()


def test_each_region_has_its_own_address() -> None:
    assert host("autoscaling", "eu-central-1") == "autoscaling.eu-central-1.amazonaws.com"
    assert host("secretsmanager", "cn-north-1") == "secretsmanager.cn-north-1.amazonaws.com.cn"
