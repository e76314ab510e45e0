"""Log lines reach their group whole and in order; nothing that goes wrong there holds up a node."""

import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import boto3  # type: ignore[import-untyped]
import pytest
from moto.server import ThreadedMotoServer

from runtime import node
from runtime.clouds.aws import AwsCloud
from runtime.clouds.aws_logs import AwsLogs
from runtime.clouds.log_lines import LogLine, Waiting
from runtime.clouds.logs import shipped_to
from runtime.clouds.shipping import Shipper
from runtime.errors import Unavailable
from runtime.limits import LOG_AGAIN_S_MAX, LOG_FLUSH_S, LOG_SHIP_S
from runtime.node_spec import AwsPlace, GatewaySpec, NodeSpec, StoreUrls
from runtime.objects import file_url
from runtime.role import Node
from tests.doubles.aws_cloud import PLACE, FakeAws
from tests.doubles.aws_logs import GROUP
from tests.doubles.cloud_server import Weather

STREAM = "training-i-0123456789abcdef0/b001"
UNTIL_S = 20.0
FORM = "%(name)s: %(message)s"
LATE_S = 1.5  # that a loaded machine may take beside
SAYS = "import sys; print('as it was', file=sys.stderr)"


@pytest.fixture
def aws() -> Iterator[FakeAws]:
    """At the real time, as log records are."""
    fake = FakeAws()
    fake.clock.at = datetime.now(UTC)
    yield fake
    fake.close()


@pytest.fixture
def sink(aws: FakeAws) -> AwsLogs:
    return AwsLogs(aws.cloud, GROUP, STREAM)


@pytest.fixture
def shipper(sink: AwsLogs) -> Iterator[Shipper]:
    """One that sends when told to, with room for ten lines; all that is logged comes to it."""
    shipper, root = Shipper(sink, Waiting(lines_max=10)), logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    root.addHandler(shipper)
    yield shipper
    root.removeHandler(shipper)
    root.setLevel(level)


class Away:
    """A sink that takes nothing."""

    def batches(self, lines: Sequence[LogLine]) -> list[list[LogLine]]:
        return [list(lines)]

    def send(self, batch: Sequence[LogLine], within_s: float) -> None:
        raise Unavailable("away")


def say(*words: str) -> None:
    for one in words:
        logging.getLogger("test").info("%s", one)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the shipping itself had to say."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("runtime.clouds") and record.levelno >= logging.WARNING
    ]


def test_lines_arrive_in_the_order_in_which_they_were_logged(
    aws: FakeAws, shipper: Shipper
) -> None:
    for words in (("one", "two"), ("three",), ()):
        say(*words)
        assert shipper.ship()

    assert aws.logs.streams == {STREAM: ["one", "two", "three"]}
    assert aws.logs.requests == ["CreateLogStream", "PutLogEvents", "PutLogEvents"]


def test_a_traceback_is_one_event_and_a_line_that_cant_be_written_harms_nobody(
    aws: FakeAws, shipper: Shipper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    quiet = logging.Logger("quiet")  # not below the root: a report can't hold such a character
    quiet.addHandler(shipper)
    try:
        raise ValueError("\udcff of a name of a file")
    except ValueError:
        quiet.exception("failed")
    quiet.info("%d", "no number")
    say("", "after")

    assert shipper.ship()

    first, *rest = aws.logs.texts
    assert first.startswith("failed\nTraceback")
    assert first.endswith("ValueError: ? of a name of a file")
    assert rest == [" ", "after"]


def test_what_does_not_fit_is_dropped_and_counted_where_it_is_missing(
    aws: FakeAws, shipper: Shipper
) -> None:
    aws.services.weather = Weather.AWAY
    say("0")
    assert not shipper.ship()
    say(*map(str, range(1, 15)))
    aws.services.weather = Weather.WELL

    assert shipper.ship()
    assert shipper.ship()

    assert aws.logs.texts[:10] == [str(number) for number in range(5, 15)]
    # The first of them and the word of it, which came after it, are gone too.
    assert aws.logs.texts[10:] == [
        "log lines are shipped again",
        "6 log lines were dropped before they could be shipped",
    ]


def test_an_outage_is_told_once_and_nothing_is_lost_in_it(
    aws: FakeAws, shipper: Shipper, caplog: pytest.LogCaptureFixture
) -> None:
    say("kept")
    for weather in (Weather.BROKEN, Weather.AWAY, Weather.BROKEN):
        aws.services.weather = weather
        shipper.ship()
    aws.services.weather = Weather.WELL

    assert shipper.ship()

    assert aws.logs.texts[0] == "kept"
    assert len(told(caplog)) == 1
    assert shipper.pause_s == LOG_SHIP_S


def test_pauses_of_a_long_outage_grow_to_a_limit() -> None:
    shipper = Shipper(Away(), chance=lambda: 1.0)
    pauses = []
    for _ in range(1100):  # half a day of it
        shipper.ship()
        pauses.append(shipper.pause_s)

    assert pauses[:6] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert set(pauses[6:]) == {LOG_AGAIN_S_MAX}


def test_credentials_that_are_over_are_fetched_anew(aws: FakeAws, shipper: Shipper) -> None:
    say("before")
    assert shipper.ship()
    aws.expire_tokens()
    say("after")

    assert shipper.ship()

    assert aws.logs.texts == ["before", "after"]


def test_without_its_group_a_node_goes_on_and_is_heard_once_there_is_one(
    aws: FakeAws, shipper: Shipper, caplog: pytest.LogCaptureFixture
) -> None:
    aws.logs.has_group = False
    for number in range(3):
        say(str(number))
        assert not shipper.ship()
    assert len(told(caplog)) == 1
    assert f"log group {GROUP}: ResourceNotFoundException" in told(caplog)[0]
    aws.logs.has_group = True

    assert shipper.ship()

    assert [text for text in aws.logs.texts if text.isdigit()] == ["0", "1", "2"]


def test_a_role_without_the_right_is_told_which(
    aws: FakeAws, shipper: Shipper, caplog: pytest.LogCaptureFixture
) -> None:
    aws.forbid()
    say("x")

    assert not shipper.ship()
    assert not shipper.ship()

    [words] = told(caplog)
    assert "AccessDeniedException" in words
    assert "logs:CreateLogStream and logs:PutLogEvents" in words


def test_a_stream_that_somebody_deletes_is_made_again(aws: FakeAws, shipper: Shipper) -> None:
    say("one")
    shipper.ship()
    aws.logs.streams.clear()
    say("two")

    assert not shipper.ship()
    assert shipper.ship()

    assert aws.logs.texts[0] == "two"


def test_a_stream_that_is_there_is_used(aws: FakeAws, shipper: Shipper) -> None:
    aws.logs.streams[STREAM] = []
    say("one")

    assert shipper.ship()

    assert aws.logs.texts == ["one"]


def test_a_batch_that_was_accepted_before_is_not_sent_again(aws: FakeAws, shipper: Shipper) -> None:
    aws.logs.says_twice = 1
    say("one")

    assert shipper.ship()
    assert shipper.ship()

    assert aws.logs.texts == ["one"]


def test_a_throttled_batch_comes_later_and_once(aws: FakeAws, shipper: Shipper) -> None:
    say("one")
    aws.throttled = 1

    assert not shipper.ship()
    assert shipper.ship()

    assert aws.logs.texts[0] == "one"
    assert aws.logs.texts.count("one") == 1


def test_what_is_never_taken_stands_in_nobodys_way(
    aws: FakeAws, shipper: Shipper, caplog: pytest.LogCaptureFixture
) -> None:
    say("first")
    shipper.ship()
    aws.logs.refusals = ["InvalidParameterException"]
    say("a", "b")

    assert shipper.ship()
    say("c")
    assert shipper.ship()

    assert "c" in aws.logs.texts
    assert "a" not in aws.logs.texts
    [words] = told(caplog)
    assert words.startswith("2 log lines are not shipped: ")


def test_a_clock_that_is_wrong_is_told_once_and_the_rest_goes_on(
    aws: FakeAws, shipper: Shipper, caplog: pytest.LogCaptureFixture
) -> None:
    for hours in (-2.5, 0, 0):
        aws.clock.at = datetime.now(UTC)
        aws.clock.move(hours * 3600)
        say(str(hours))
        assert shipper.ship()

    assert [text for text in aws.logs.texts if text[0].isdigit()] == ["0", "0"]
    assert len(told(caplog)) == 1
    assert "clock" in told(caplog)[0]


def test_the_last_lines_of_a_node_and_of_its_children_arrive(aws: FakeAws, sink: AwsLogs) -> None:
    before = logging.getLogger().handlers[:]
    with shipped_to(sink, FORM) as stderr:
        logging.getLogger("test").error("last")
        subprocess.run([sys.executable, "-c", SAYS], stderr=stderr, check=True)

    assert set(aws.logs.texts) == {"test: last", "as it was"}
    assert logging.getLogger().handlers == before


def test_lines_come_without_anybody_asking_for_them(aws: FakeAws, sink: AwsLogs) -> None:
    with shipped_to(sink, FORM):
        logging.getLogger("test").error("soon")
        assert aws.logs.is_taken.wait(UNTIL_S)
        assert aws.logs.texts == ["test: soon"]


@pytest.mark.parametrize("server", ["services", "metadata"])
def test_an_endpoint_that_hangs_does_not_keep_a_node_from_leaving(
    aws: FakeAws, sink: AwsLogs, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    getattr(aws, server).weather = Weather.SLOW

    with shipped_to(sink, FORM):
        logging.getLogger("test").error("last")
        left = time.monotonic()

    assert time.monotonic() - left < LOG_FLUSH_S + LATE_S
    assert "the last log lines are not shipped" in caplog.text


def test_a_fault_that_ends_a_node_is_shipped_and_still_ends_it(aws: FakeAws, sink: AwsLogs) -> None:
    with pytest.raises(ZeroDivisionError), shipped_to(sink, FORM):
        print(1 // 0)

    [text] = aws.logs.texts
    assert text.startswith("runtime.clouds.logs: the node ends by a fault\nTraceback")
    assert text.endswith("ZeroDivisionError: integer division or modulo by zero")


def test_moto_takes_what_the_double_takes(aws: FakeAws) -> None:
    """Its shapes are another's reading of the same reference; it checks no signature."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    try:
        address, port = server.get_host_and_port()
        url = f"http://{address}:{port}"
        keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "key"}
        logs = boto3.client("logs", endpoint_url=url, region_name=PLACE.region, **keys)
        logs.create_log_group(logGroupName=GROUP)
        cloud = AwsCloud(PLACE, metadata_url=aws.metadata.url, service_url=url)

        with shipped_to(AwsLogs(cloud, GROUP, STREAM), FORM):
            logging.getLogger("test").error("one")
            logging.getLogger("test").error("two, é")

        found = logs.get_log_events(logGroupName=GROUP, logStreamName=STREAM)
        assert [event["message"] for event in found["events"]] == ["test: one", "test: two, é"]
    finally:
        server.stop()


def test_a_node_ships_where_its_file_says_so_by_its_name_and_boot(
    aws: FakeAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderrs: list[int | None] = []

    def role(node: Node) -> None:
        stderrs.append(node.stderr)
        logging.getLogger("role").error("of %s", node.spec.node)

    module = ModuleType("role_that_ships")
    module.run = role  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "role_that_ships", module)
    monkeypatch.setitem(node.ROLES, "gateway", "role_that_ships")
    monkeypatch.setattr("runtime.clouds.logs.AwsCloud", lambda _: aws.cloud)
    spec = NodeSpec(
        stack="test",
        stack_id="5e1f",
        cloud="aws",
        pool="gateway",
        node="gateway-i-0",
        address="127.0.0.1",
        bundle_sha256="0" * 64,
        stores=StoreUrls(**{name: file_url(tmp_path / name) for name in StoreUrls.model_fields}),
        gateway=GatewaySpec(replicas=1, api_key_sha256=(), max_tokens=16, drain_s=5, port=8080),
        aws=AwsPlace(region=PLACE.region, group=PLACE.group, log_group=GROUP),
    )
    silent = AwsPlace(region=PLACE.region, group=PLACE.group)

    assert node.run(spec, tmp_path, threading.Event()) == 0
    assert node.run(spec, tmp_path, threading.Event()) == 0
    assert node.run(spec.model_copy(update={"aws": silent}), tmp_path, threading.Event()) == 0

    assert [name.partition("/")[0] for name in aws.logs.streams] == ["gateway-i-0"] * 2
    for [line] in aws.logs.streams.values():
        assert re.fullmatch(r"2\d{3}-\S+ \S+ ERROR role: of gateway-i-0", line)
    assert [stderr is None for stderr in stderrs] == [False, False, True]
