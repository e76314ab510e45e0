"""What a node is promised: due times in any zone, and a file that says all or is refused."""

import json
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from runtime.node_spec import (
    WEEKDAYS,
    GatewaySpec,
    ModelSpec,
    NodeSpec,
    Schedule,
    ServeSpec,
    StoreUrls,
    TrainSpec,
)
from tests.strategies import schedules

QUARTER = timedelta(minutes=15)  # offsets of today's zones are whole quarters of an hour
INSTANT = timedelta(microseconds=1)
EXAMPLES = 40  # each walks through days by the quarter, or through a year by the day

moments = st.datetimes(datetime(2015, 1, 1), datetime(2036, 12, 31), timezones=st.just(UTC))


def is_due(schedule: Schedule, moment: datetime) -> bool:
    """Whether the wall clock shows a due time, for the first time on that day."""
    wall = moment.astimezone(ZoneInfo(schedule.zone))
    return (
        (wall.hour, wall.minute) == (schedule.hour, schedule.minute)
        and WEEKDAYS[wall.weekday()] in schedule.weekdays
        and wall.fold == 0
    )


@given(schedule=schedules, now=moments)
def test_now_lies_between_the_last_due_time_and_the_next(schedule: Schedule, now: datetime) -> None:
    last, following = schedule.last_tick(now), schedule.next_tick(now)

    assert last is not None
    assert last <= now < following
    assert last.utcoffset() == following.utcoffset() == timedelta(0)
    assert following - last <= timedelta(days=8)


@given(schedule=schedules, now=moments)
def test_a_due_time_is_its_own_last_and_not_its_own_next(schedule: Schedule, now: datetime) -> None:
    tick = schedule.next_tick(now)

    assert schedule.last_tick(tick) == tick
    assert schedule.next_tick(tick) > tick
    assert schedule.next_tick(tick - INSTANT) == tick
    assert schedule.last_tick(tick - INSTANT) == schedule.last_tick(now)


@settings(max_examples=EXAMPLES)
@given(schedule=schedules, now=moments)
def test_no_due_time_lies_between_two_that_follow_each_other(
    schedule: Schedule, now: datetime
) -> None:
    last, following = schedule.last_tick(now), schedule.next_tick(now)
    assert last is not None

    between = following - QUARTER
    while between > last:
        assert not is_due(schedule, between)
        between -= QUARTER


@settings(max_examples=EXAMPLES)
@given(schedule=schedules, year=st.integers(2016, 2035))
def test_every_day_that_is_named_has_one_due_time_the_days_of_the_change_too(
    schedule: Schedule, year: int
) -> None:
    zone = ZoneInfo(schedule.zone)
    days = [date(year, 1, 1) + timedelta(days=number) for number in range(365)]

    tick = schedule.next_tick(datetime(year, 1, 1, tzinfo=zone) - INSTANT)
    found = []
    while (day := tick.astimezone(zone).date()) <= days[-1]:
        found.append(day)
        tick = schedule.next_tick(tick)

    assert found == [day for day in days if WEEKDAYS[day.weekday()] in schedule.weekdays]


@pytest.mark.parametrize(
    ("zone", "hour", "minute", "noon_before", "tick"),
    [
        # 2:00 to 3:00 is left out on 29 March 2026.
        ("Europe/Zurich", 2, 30, "2026-03-28T12:00+00:00", "2026-03-29T03:30+02:00"),
        ("Europe/Zurich", 3, 0, "2026-03-28T12:00+00:00", "2026-03-29T03:00+02:00"),
        # 2:00 to 3:00 comes twice on 25 October 2026.
        ("Europe/Zurich", 2, 30, "2026-10-24T12:00+00:00", "2026-10-25T02:30+02:00"),
        ("Europe/Zurich", 3, 0, "2026-10-24T12:00+00:00", "2026-10-25T03:00+01:00"),
        # 2:00 to 2:30 is left out on 4 October 2026: the change is of half an hour.
        ("Australia/Lord_Howe", 2, 15, "2026-10-03T01:30+00:00", "2026-10-04T02:45+11:00"),
        # 1:30 to 2:00 comes twice on 5 April 2026.
        ("Australia/Lord_Howe", 1, 45, "2026-04-04T01:00+00:00", "2026-04-05T01:45+11:00"),
    ],
)
def test_a_clock_that_is_changed_moves_a_due_time_and_never_doubles_it(
    zone: str, hour: int, minute: int, noon_before: str, tick: str
) -> None:
    daily = Schedule(minute=minute, hour=hour, zone=zone)

    found = daily.next_tick(datetime.fromisoformat(noon_before))

    assert found == datetime.fromisoformat(tick)
    assert daily.last_tick(found + timedelta(hours=2)) == found
    assert daily.next_tick(found).astimezone(ZoneInfo(zone)).date() == found.astimezone(
        ZoneInfo(zone)
    ).date() + timedelta(days=1)


@pytest.mark.parametrize("zone", ["Pacific/Pago_Pago", "UTC", "Pacific/Kiritimati"])
@pytest.mark.parametrize("hour", [0, 6, 12, 18, 23])
def test_a_day_lies_between_two_days_due_times_wherever_the_date_changes(
    zone: str, hour: int
) -> None:
    daily = Schedule(minute=30, hour=hour, zone=zone)
    day = timedelta(days=1)

    for hours in range(48):
        now = datetime(2026, 1, 2, tzinfo=UTC) + timedelta(hours=hours)
        last, following = daily.last_tick(now), daily.next_tick(now)

        assert last is not None
        assert following - last == day
        assert last <= now < following
        assert is_due(daily, last)


def test_a_day_that_is_not_named_is_passed_over() -> None:
    working = Schedule(minute=0, hour=6, weekdays=("mon", "fri"), zone="Asia/Kathmandu")
    friday = datetime(2026, 1, 2, 0, 15, tzinfo=UTC)  # 06:00 in Kathmandu

    assert working.last_tick(friday) == friday
    assert working.next_tick(friday) == friday + timedelta(days=3)
    assert working.last_tick(friday - INSTANT) == friday - timedelta(days=4)


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "", "../etc/passwd", "/etc/passwd", "Europe", "Zürich", "UTC\0"]
)
def test_a_zone_that_nobody_knows_is_refused(zone: str) -> None:
    with pytest.raises(ValidationError, match="is no IANA time zone"):
        Schedule(minute=0, hour=0, zone=zone)


@pytest.mark.parametrize(
    "change", [{"minute": 60}, {"hour": 24}, {"hour": -1}, {"weekdays": []}, {"weekdays": ["Mon"]}]
)
def test_a_time_that_no_clock_shows_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        Schedule.model_validate({"minute": 0, "hour": 0} | change)


MODEL = ModelSpec()
TRAIN = TrainSpec(
    model_name="tiny", model=MODEL, data="python-stdlib", nodes=2, min_nodes=1, steps=10,
    global_batch=4, micro_batch=2, sequence_tokens=32, learning_rate=1e-3, warmup_steps=1,
    weight_decay=0.1, clip_norm=1.0, seed=0, checkpoint_every_steps=5, validate_every_steps=5,
    join_s=60, pause_s_max=60, unsaved_s_max=60, watchdog_s=5, threads_per_worker=1,
    schedule=Schedule(minute=30, hour=6, weekdays=("sat",), zone="Europe/Zurich"),
)  # fmt: skip
SERVE = ServeSpec(
    model_name="tiny", max_tokens=16, slots=2, queue=4, drain_s=5, threads=1, port=8000
)
GATEWAY = GatewaySpec(replicas=2, api_key_sha256=("0" * 64,), max_tokens=16, drain_s=5, port=8080)


def node_spec(part: dict[str, object]) -> NodeSpec:
    """Of a node with one role."""
    return NodeSpec.model_validate(
        {
            "stack": "test",
            "stack_id": "0" * 8,
            "cloud": "local",
            "pool": "pool",
            "node": "pool-0",
            "address": "127.0.0.1",
            "bundle_sha256": "0" * 64,
            "stores": dict.fromkeys(StoreUrls.model_fields, "file:///srv/store"),
        }
        | part
    )


@pytest.mark.parametrize(
    ("part", "role"),
    [
        ({"train": TRAIN}, "training"),
        ({"serve": SERVE}, "replica"),
        ({"gateway": GATEWAY}, "gateway"),
    ],
    ids=["training", "replica", "gateway"],
)
def test_a_node_file_is_read_as_it_was_written(part: dict[str, object], role: str) -> None:
    spec = node_spec(part)

    read = NodeSpec.model_validate_json(spec.model_dump_json())

    assert read == spec
    assert read.role == role


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("stores",),
        ("train",),
        ("train", "model"),
        ("train", "schedule"),
    ],
    ids=lambda path: ".".join(path) or "top",
)
def test_a_key_that_a_node_does_not_know_is_refused_wherever_it_stands(
    path: tuple[str, ...],
) -> None:
    content = json.loads(node_spec({"train": TRAIN}).model_dump_json())
    part = content
    for key in path:
        part = part[key]
    part["colour"] = "blue"

    with pytest.raises(ValidationError, match=r"\.".join((*path, "colour"))):
        NodeSpec.model_validate_json(json.dumps(content))


def test_a_node_can_not_change_what_it_was_promised() -> None:
    spec = node_spec({"gateway": GATEWAY})

    with pytest.raises(ValidationError, match="frozen"):
        spec.node = "pool-1"
