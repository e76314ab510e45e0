"""What every cloud does for a node, run on all four: notice, size, secret, identity."""

import logging
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from runtime.errors import AtollError, Corrupt, Missing, Refused, Unavailable
from runtime.limits import CONTROL_AGAIN_S_MAX, CONTROL_TRIES
from tests.doubles.aws_cloud import FakeAws
from tests.doubles.azure_cloud import FakeAzure
from tests.doubles.cloud_server import Weather
from tests.doubles.gcp_cloud import FakeGcp
from tests.doubles.local_cloud import FakeLocal

Api = FakeAws | FakeGcp | FakeAzure  # reached by HTTP, with tokens and limits
Fake = Api | FakeLocal

SECRET = "sk-a-secret-that-nobody-shall-see"
APIS: dict[str, Callable[[], Api]] = {"aws": FakeAws, "gcp": FakeGcp, "azure": FakeAzure}


@pytest.fixture(params=[*APIS, "local"])
def fake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fake]:
    """One of the four, and what it needs to stand."""
    fake: Fake = FakeLocal(tmp_path) if request.param == "local" else APIS[request.param]()
    yield fake
    fake.close()


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    """One of the three that are far away."""
    fake = APIS[request.param]()
    yield fake
    fake.close()


def told(fault: BaseException) -> str:
    """All that a log with a traceback would hold of an exception."""
    return "".join(traceback.format_exception(fault)) + repr(fault)


def test_without_a_notice_there_is_none(fake: Fake) -> None:
    assert fake.cloud.notice() is None
    assert fake.cloud.notice() is None


def test_a_notice_says_until_when_and_how_long_that_is(fake: Fake) -> None:
    assert fake.cloud.notice() is None
    fake.reclaim(fake.notice_s_max)

    notice = fake.cloud.notice()

    assert notice is not None
    assert notice.kind == "reclaim"
    assert notice.deadline.tzinfo is UTC
    assert notice.deadline == fake.clock.at + timedelta(seconds=fake.notice_s_max)
    assert notice.left_s == fake.notice_s_max
    assert notice.why


def test_a_notice_that_is_read_again_has_less_time_and_the_same_end(fake: Fake) -> None:
    fake.reclaim(fake.notice_s_max)
    first = fake.cloud.notice()
    fake.clock.move(10.0)

    again = fake.cloud.notice()

    assert first is not None
    assert again is not None
    assert again.deadline == first.deadline
    assert again.left_s == first.left_s - 10.0


def test_after_the_deadline_no_time_is_left_and_not_less(fake: Fake) -> None:
    fake.reclaim(fake.notice_s_max)
    fake.cloud.notice()
    fake.clock.move(3600.0)

    notice = fake.cloud.notice()

    assert notice is not None
    assert notice.left_s == 0.0


@pytest.mark.parametrize("weather", [w for w in Weather if w is not Weather.WELL])
def test_a_metadata_server_in_bad_weather_is_unavailable_and_heard_again_after_it(
    fake: Fake, weather: Weather
) -> None:
    assert fake.cloud.notice() is None
    fake.reclaim(fake.notice_s_max)
    fake.metadata.weather = weather

    with pytest.raises(Unavailable):
        fake.cloud.notice()

    fake.metadata.weather = Weather.WELL
    assert fake.cloud.notice() is not None


def test_the_pool_gets_the_size_that_it_is_told(fake: Fake) -> None:
    for size in (3, 0, 0, 4, 4):
        fake.cloud.set_size(size)

        assert fake.size == size


def test_a_size_that_is_forbidden_is_refused_with_what_to_do(fake: Fake) -> None:
    fake.forbid()

    with pytest.raises(Refused, match=fake.forbidden_says):
        fake.cloud.set_size(0)

    assert fake.size == 2
    assert fake.clock.slept == [], "asking again would not help"


def test_a_secret_is_what_was_put_there(fake: Fake) -> None:
    reference = fake.put_secret(SECRET)

    assert fake.cloud.secret(reference).get_secret_value() == SECRET


def test_a_secret_that_is_not_there_is_missing_and_named(fake: Fake) -> None:
    with pytest.raises(Missing, match="nothing"):
        fake.cloud.secret(fake.missing_secret)


def test_a_secret_is_never_shown(
    fake: Fake, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = fake.cloud.secret(fake.put_secret(SECRET))

    shown = f"{secret} {secret!r} {vars(fake.cloud)!r}"
    with pytest.raises(Corrupt) as damaged:
        fake.cloud.secret(fake.garble_secret(SECRET))

    for text in (shown, told(damaged.value), caplog.text, *capsys.readouterr()):
        assert SECRET not in text


def test_who_it_is_says_the_cloud(fake: Fake) -> None:
    identity = fake.cloud.identity()

    assert identity.instance
    assert identity.region
    assert identity.zone


def test_telling_that_all_is_saved_does_no_harm(fake: Fake) -> None:
    fake.reclaim(fake.notice_s_max)
    notice = fake.cloud.notice()
    assert notice is not None

    fake.cloud.release(notice)

    assert fake.cloud.notice() == notice


def test_a_cloud_that_throttles_is_asked_again(api: Api) -> None:
    api.throttled = CONTROL_TRIES - 1

    api.cloud.set_size(4)

    assert api.size == 4
    assert len(api.clock.slept) == CONTROL_TRIES - 1


def test_a_cloud_that_goes_on_throttling_is_unavailable_after_the_last_try(api: Api) -> None:
    api.throttled = 1000

    with pytest.raises(Unavailable, match=f"{CONTROL_TRIES} tries"):
        api.cloud.set_size(4)

    assert api.size == 2
    assert api.throttled == 1000 - CONTROL_TRIES
    assert all(pause <= CONTROL_AGAIN_S_MAX for pause in api.clock.slept)


@pytest.mark.parametrize("weather", [Weather.AWAY, Weather.BROKEN])
def test_a_service_in_bad_weather_is_asked_again_and_then_unavailable(
    api: Api, weather: Weather
) -> None:
    api.services.weather = weather

    with pytest.raises(Unavailable):
        api.cloud.set_size(4)
    with pytest.raises(Unavailable):
        api.cloud.secret(api.put_secret(SECRET))

    assert len(api.services.asked) == 2 * CONTROL_TRIES


@pytest.mark.parametrize("server", ["metadata", "services"])
def test_whichever_request_of_an_order_is_lost_it_is_carried_out(api: Api, server: str) -> None:
    for number in range(20):
        api.expire_tokens()
        own = api.metadata if server == "metadata" else api.services
        begin = len(own.asked)
        own.away_at = begin + number

        size = 3 + number % 2
        api.cloud.set_size(size)
        secret = api.cloud.secret(api.put_secret(SECRET))

        assert api.size == size
        assert secret.get_secret_value() == SECRET
        if len(own.asked) <= begin + number:
            break  # there was no such request any more: all were lost once
    assert 0 < number < 19


def test_a_token_is_fetched_once_and_used_again(api: Api) -> None:
    api.cloud.set_size(3)
    fetched = len(api.metadata.asked)
    api.cloud.set_size(4)

    assert len(api.metadata.asked) == fetched


def test_a_token_near_its_end_is_fetched_anew_before_it_is_refused(api: Api) -> None:
    api.cloud.set_size(3)
    fetched = len(api.metadata.asked)
    api.clock.move(3590.0)
    api.cloud.set_size(4)

    assert len(api.metadata.asked) > fetched
    assert api.clock.slept == []


def test_a_token_that_is_refused_is_fetched_anew(api: Api) -> None:
    api.cloud.set_size(3)
    api.expire_tokens()

    api.cloud.set_size(4)
    assert api.cloud.secret(api.put_secret(SECRET)).get_secret_value() == SECRET

    assert api.size == 4


def test_tokens_that_are_refused_anew_as_well_are_refused_in_the_end(api: Api) -> None:
    api.behind = 1

    with pytest.raises(Refused):
        api.cloud.set_size(4)

    assert api.clock.slept == []


def test_a_token_is_never_shown(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    api.cloud.set_size(3)
    sent = [a.headers for a in api.services.asked + api.metadata.asked]
    tokens = {h[n] for h in sent for n in h if "token" in n or n == "authorization"} - {"21600"}
    assert tokens

    api.is_forbidden = True
    with pytest.raises(AtollError) as refused:
        api.cloud.set_size(4)

    for text in (told(refused.value), caplog.text, repr(vars(api.cloud))):
        for token in tokens:
            assert token.removeprefix("Bearer ") not in text
