"""The watch: tells of a notice once, whatever the metadata server does meanwhile."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from runtime.clouds.cloud import Identity, Notice, notice_until
from runtime.clouds.watch import NoticeWatch
from runtime.errors import Unavailable
from runtime.limits import METADATA_S, NOTICE_AHEAD_S, NOTICE_POLL_S
from tests.doubles.azure_cloud import ME, FakeAzure
from tests.doubles.cloud_server import Weather
from tests.doubles.gcp_cloud import FakeGcp

UNTIL_S = 20.0
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
Heard = Notice | Exception | None


class Script:
    """A cloud that answers what a list says, one after another; then there is nothing."""

    def __init__(self, *answers: Heard) -> None:
        self.answers = list(answers)
        self.at_end: Callable[[], None] = lambda: None
        self.asked_wait_s: list[float] = []

    def notice(self, wait_s: float = 0.0) -> Notice | None:
        self.asked_wait_s.append(wait_s)
        if not self.answers:
            self.at_end()
            return None
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def release(self, notice: Notice) -> None:
        raise AssertionError("not asked by a watch")

    def set_size(self, size: int) -> None:
        raise AssertionError("not asked by a watch")

    def secret(self, reference: str) -> SecretStr:
        raise AssertionError("not asked by a watch")

    def identity(self) -> Identity:
        raise AssertionError("not asked by a watch")


class Moment(threading.Event):
    """An event whose waits take no time; remembers how long they would have been."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout or 0.0)
        return self.is_set()


def notice(left_s: float) -> Notice:
    return notice_until("reclaim", left_s, NOW, why="spot terminate")


def watch_out(script: Script, stop: Moment, seconds: Callable[[], float]) -> list[Notice]:
    """Run a watch until its script is over; what it told."""
    told: list[Notice] = []
    over = threading.Event()

    def hear(notice: Notice) -> None:
        told.append(notice)
        over.set()

    def end() -> None:
        stop.set()
        over.set()

    script.at_end = end
    watch = NoticeWatch(script, hear, stop=stop, seconds=seconds)
    watch.start()
    assert over.wait(UNTIL_S)
    watch.close()
    return told


def test_a_notice_is_told_once_and_the_watch_ends_with_it() -> None:
    script = Script(None, None, notice(30.0), notice(29.0))

    told = watch_out(script, Moment(), lambda: 0.0)

    assert told == [notice(30.0)]
    assert script.answers == [notice(29.0)], "nothing is asked after a notice"


def test_bad_weather_is_said_once_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    away = [Unavailable("metadata: away")] * 3
    script = Script(*away, KeyError("a fault of ours"), None, *away, notice(30.0))

    told = watch_out(script, Moment(), lambda: 0.0)

    assert told == [notice(30.0)]
    assert caplog.text.count("metadata: away") == 2
    assert caplog.text.count("heard again") == 2


def test_a_notice_of_something_far_off_is_held_back_until_it_presses() -> None:
    script = Script(notice(7 * 86400.0), notice(NOTICE_AHEAD_S + 1), None, notice(NOTICE_AHEAD_S))

    assert watch_out(script, Moment(), lambda: 0.0) == [notice(NOTICE_AHEAD_S)]


def test_it_asks_once_a_beat_whether_or_not_the_cloud_holds_the_question() -> None:
    script, stop = Script(None, None, None), Moment()
    # The first question takes no time, the second 0.4 s, the third longer than a beat.
    ticks = iter([0.0, 0.0, 1.0, 1.4, 2.0, 4.0, 4.0])

    watch_out(script, stop, lambda: next(ticks, 9.0))

    assert stop.waited[:3] == [NOTICE_POLL_S, pytest.approx(NOTICE_POLL_S - 0.4), 0.0]
    assert set(script.asked_wait_s) == {NOTICE_POLL_S}


def test_a_watch_that_is_closed_tells_no_more_and_ends() -> None:
    stop = Moment()
    told: list[Notice] = []
    script = Script()
    watch = NoticeWatch(script, told.append, stop=stop, seconds=lambda: 0.0)
    script.answers = [None, notice(30.0)]
    stop.set()
    watch.start()

    watch.close()

    assert told == []
    assert script.asked_wait_s == []


def test_a_reclaim_is_heard_within_a_beat_from_a_server_that_was_broken_before() -> None:
    gcp, azure = FakeGcp(), FakeAzure()
    try:
        for fake in (gcp, azure):
            told = threading.Event()
            fake.metadata.weather = Weather.BROKEN
            watch = NoticeWatch(fake.cloud, lambda _, told=told: told.set())  # type: ignore[misc]
            watch.start()
            fake.metadata.weather = Weather.WELL
            fake.reclaim(30.0)
            begin = time.monotonic()

            assert told.wait(UNTIL_S)

            assert time.monotonic() - begin < NOTICE_POLL_S + METADATA_S
            watch.close()
    finally:
        gcp.close()
        azure.close()


def test_a_reboot_next_week_lets_a_node_work_on() -> None:
    azure = FakeAzure()
    azure.schedule("Reboot", 7 * 86400.0, ME)
    told: list[Notice] = []
    watch = NoticeWatch(azure.cloud, told.append)
    watch.start()
    until(lambda: len(azure.metadata.asked) >= 3)

    watch.close()
    azure.close()

    assert told == []


def until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + UNTIL_S
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)
