"""What only Azure has: events of other machines, events that have started, acknowledgements."""

from collections.abc import Iterator

import pytest

from runtime.clouds.azure import AzureCloud
from runtime.errors import Refused, Unavailable
from tests.doubles.azure_cloud import ME, PLACE, FakeAzure


@pytest.fixture
def azure() -> Iterator[FakeAzure]:
    fake = FakeAzure()
    yield fake
    fake.close()


def test_events_of_other_machines_are_not_ours(azure: FakeAzure) -> None:
    azure.schedule("Preempt", 30.0, "training_1", "training_33")

    assert azure.cloud.notice() is None


def test_names_of_machines_are_compared_without_case(azure: FakeAzure) -> None:
    azure.schedule("Preempt", 30.0, "training_1", ME.upper())

    assert azure.cloud.notice() is not None


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("Preempt", "reclaim"),
        ("Terminate", "reclaim"),
        ("Reboot", "maintenance"),
        ("Redeploy", "maintenance"),
        ("Freeze", None),
        ("Something", None),
    ],
)
def test_what_takes_the_machine_is_a_notice_and_a_pause_is_none(
    azure: FakeAzure, event: str, kind: str | None
) -> None:
    azure.schedule(event, 900.0, ME)

    notice = azure.cloud.notice()

    assert (notice.kind if notice else None) == kind


def test_of_several_events_the_first_to_come_counts(azure: FakeAzure) -> None:
    azure.schedule("Redeploy", 600.0, ME)
    azure.schedule("Preempt", 30.0, ME)
    azure.schedule("Reboot", 900.0, ME)

    notice = azure.cloud.notice()

    assert notice is not None
    assert notice.left_s == 30.0


def test_a_machine_that_has_just_rebooted_does_not_leave_for_the_event_of_it(
    azure: FakeAzure,
) -> None:
    azure.schedule("Reboot", None, ME)

    assert azure.cloud.notice() is None


def test_a_preemption_that_has_started_leaves_no_time(azure: FakeAzure) -> None:
    azure.schedule("Preempt", None, ME)

    notice = azure.cloud.notice()

    assert notice is not None
    assert notice.left_s == 0.0


def test_an_event_of_ours_alone_is_acknowledged(azure: FakeAzure) -> None:
    event = azure.schedule("Terminate", 300.0, ME)
    notice = azure.cloud.notice()
    assert notice is not None

    azure.cloud.release(notice)

    assert azure.started == [event]


def test_an_event_that_takes_others_along_is_left_to_its_time(azure: FakeAzure) -> None:
    azure.schedule("Preempt", 30.0, ME, "training_4")
    notice = azure.cloud.notice()
    assert notice is not None

    azure.cloud.release(notice)

    assert azure.started == []


def test_a_time_that_is_none_is_unavailable(azure: FakeAzure) -> None:
    azure.schedule("Preempt", 30.0, ME)
    azure.events[0]["NotBefore"] = "in a while"

    with pytest.raises(Unavailable, match="time"):
        azure.cloud.notice()


def test_a_size_beyond_the_quota_is_refused_and_one_that_it_has_is_not_written(
    azure: FakeAzure,
) -> None:
    with pytest.raises(Refused, match="quota"):
        azure.cloud.set_size(9)
    azure.cloud.set_size(2)

    assert [asked.method for asked in azure.services.asked] == ["GET", "PATCH", "GET"]


def test_a_pause_that_the_cloud_asks_for_is_made(azure: FakeAzure) -> None:
    azure.throttled = 1

    azure.cloud.set_size(4)

    assert azure.clock.slept == [3.0]


def test_another_identity_than_the_machines_gets_no_token(azure: FakeAzure) -> None:
    stranger = PLACE.model_copy(update={"client_id": None})
    cloud = AzureCloud(
        stranger,
        metadata_url=azure.metadata.url,
        management_url=azure.services.url,
        around=azure.clock.around,
    )

    with pytest.raises(Unavailable, match="identity/oauth2/token"):
        cloud.set_size(0)


@pytest.mark.parametrize("end", [10**18, -1, "soon", None])
def test_a_token_without_an_end_that_is_one_is_unavailable(azure: FakeAzure, end: object) -> None:
    azure.metadata.change("oauth2/token", expires_on=end)

    with pytest.raises(Unavailable, match="no token"):
        azure.cloud.set_size(3)


@pytest.mark.parametrize("reference", ["api-key", "kit.evil.org/x", "kit/../x", "kit/a/b/c", ""])
def test_a_reference_that_names_no_vault_and_secret_is_refused_unasked(
    azure: FakeAzure, reference: str
) -> None:
    with pytest.raises(Refused, match="allowed VAULT/NAME"):
        azure.cloud.secret(reference)

    assert azure.services.asked == []
