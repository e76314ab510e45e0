"""Whatever a cloud answers, a node gets a notice, none, Unavailable or Refused; nothing else."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runtime.clouds.cloud import Notice
from runtime.errors import Corrupt, Missing, Refused, Unavailable
from tests.doubles.azure_cloud import ME
from tests.doubles.cloud_server import Answered, Asked, CloudServer
from tests.seams.test_cloud import APIS, SECRET, Api

# Values that the three clouds use, where they do not mean them; and times that nobody means.
TEXTS = (
    *("", "terminate", "Preempt", "Scheduled", "Started", ME, "soon", "TRUE", "FALSE", "NONE"),
    *("2026-11-25T12:02:00Z", "2026-11-25T12:02:00", "9999-12-31T23:59:59Z"),
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"),
    *("Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 +2359", "a\nb", "\N{SNOWMAN}"),
)
VALUES = (
    st.sampled_from(TEXTS)
    | st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**18, -(10**18), 1e308, [], {}, [{}], {"error": None}])
)
# The number of a request, and of a place in its answer, and what stands there instead.
CHANGES = st.tuples(st.integers(0, 9), st.integers(0, 9), VALUES)
HEAD = {"Metadata-Flavor": "Google"}


@pytest.fixture(scope="module", params=APIS)
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    """One for all examples: what it keeps of one must not make the next one fall."""
    fake = APIS[request.param]()
    yield fake
    fake.close()


def changed(body: object, place: int, value: object) -> object:
    """A body with something else in one place: the whole, or a field of it, however deep."""
    places = [body] if place == 0 else []
    if places or not isinstance(body, dict | list) or not body:
        return value if isinstance(value, str) else json.dumps(value)
    copy = json.loads(json.dumps(body))
    todo: list[tuple[dict[str, object] | list[object], object]] = []

    def walk(node: dict[str, object] | list[object]) -> None:
        keys: list[object] = list(node) if isinstance(node, dict) else list(range(len(node)))
        for key in keys:
            todo.append((node, key))
            inner = node[key]  # type: ignore[index,call-overload]
            if isinstance(inner, dict | list):
                walk(inner)

    walk(copy)
    node, key = todo[place % len(todo)]
    node[key] = value  # type: ignore[index,call-overload]
    return copy


class Garbling:
    """A server whose answers are changed in one place, for as long as this is entered."""

    def __init__(self, server: CloudServer, change: tuple[int, int, object]) -> None:
        self._server, self._change, self._well = server, change, server.answer
        self._numbers = count()

    def __enter__(self) -> None:
        self._server.answer = self._answer

    def __exit__(self, *_: object) -> None:
        self._server.answer = self._well

    def _answer(self, asked: Asked) -> Answered:
        answered = self._well(asked)
        number, place, value = self._change
        if next(self._numbers) != number:
            return answered
        headers = {**HEAD, **answered.headers}
        return replace(answered, body=changed(answered.body, place, value), headers=headers)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=150,
)
@given(change=CHANGES, is_reclaimed=st.booleans())
@example(change=(1, 2, "9999-12-31T23:59:59-23:59"), is_reclaimed=True)
@example(change=(0, 0, "a\nb"), is_reclaimed=True)
def test_an_answer_of_metadata_that_is_changed_in_one_place(
    api: Api, change: tuple[int, int, object], is_reclaimed: bool
) -> None:
    api.expire_tokens()
    if is_reclaimed:
        api.reclaim(api.notice_s_max)

    with Garbling(api.metadata, change):
        for _ in range(3):
            with suppress(Unavailable):
                notice = api.cloud.notice()
                assert notice is None or isinstance(notice, Notice)
        with suppress(Unavailable):
            api.cloud.identity()
        with suppress(Unavailable, Refused):
            api.cloud.set_size(3)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=100,
)
@given(change=CHANGES, status=st.sampled_from([0, 0, 302, 400, 403, 404, 409, 418, 500]))
def test_an_answer_of_a_service_that_is_changed_in_one_place(
    api: Api, change: tuple[int, int, object], status: int
) -> None:
    reference = api.put_secret(SECRET)
    well = api.services.answer

    def with_status(asked: Asked) -> Answered:
        answered = well(asked)
        return replace(answered, status=status or answered.status)

    api.services.answer = with_status
    try:
        with Garbling(api.services, change):
            with suppress(Unavailable, Refused):
                api.cloud.set_size(3)
            with suppress(Unavailable, Refused, Missing, Corrupt):
                api.cloud.secret(reference)
    finally:
        api.services.answer = well
