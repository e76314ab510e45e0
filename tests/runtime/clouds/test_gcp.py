"""What only GCP has: questions that are held, maintenance without a time, orders that fail."""

import threading
import time
from collections.abc import Iterator

import pytest

from runtime.clouds.gcp import GcpCloud
from runtime.errors import Refused, Unavailable
from tests.doubles.gcp_cloud import PLACE, FakeGcp


@pytest.fixture
def gcp() -> Iterator[FakeGcp]:
    fake = FakeGcp()
    yield fake
    fake.close()


def test_a_question_that_is_held_ends_with_the_change(gcp: FakeGcp) -> None:
    assert gcp.cloud.notice() is None
    begin = time.monotonic()
    threading.Timer(0.1, gcp.reclaim, [30.0]).start()

    notice = gcp.cloud.notice(20.0)

    assert notice is not None
    assert gcp.held == 1
    assert time.monotonic() - begin < 10.0, "else it was not told but asked for again"


def test_a_change_between_two_questions_is_not_waited_for(gcp: FakeGcp) -> None:
    assert gcp.cloud.notice() is None
    gcp.reclaim(30.0)
    begin = time.monotonic()

    assert gcp.cloud.notice(20.0) is not None

    assert time.monotonic() - begin < 10.0


def test_the_first_question_is_never_held(gcp: FakeGcp) -> None:
    assert gcp.cloud.notice(20.0) is None
    assert gcp.held == 0


def test_a_maintenance_that_stops_the_machine_is_a_notice_and_a_migration_is_none(
    gcp: FakeGcp,
) -> None:
    gcp.maintenance = "MIGRATE_ON_HOST_MAINTENANCE"
    assert gcp.cloud.notice() is None

    gcp.maintenance = "TERMINATE_ON_HOST_MAINTENANCE"
    notice = gcp.cloud.notice()

    assert notice is not None
    assert (notice.kind, notice.left_s) == ("maintenance", 60.0)


def test_a_notice_that_was_taken_back_is_counted_anew_when_it_comes_again(gcp: FakeGcp) -> None:
    gcp.maintenance = "TERMINATE_ON_HOST_MAINTENANCE"
    gcp.cloud.notice()
    gcp.maintenance = "NONE"
    assert gcp.cloud.notice() is None
    gcp.clock.move(3600.0)

    gcp.maintenance = "TERMINATE_ON_HOST_MAINTENANCE"
    notice = gcp.cloud.notice()

    assert notice is not None
    assert notice.left_s == 60.0


def test_an_order_that_was_taken_and_holds_its_fault_is_refused(gcp: FakeGcp) -> None:
    gcp.fault_taken = {"errors": [{"code": "QUOTA_EXCEEDED", "message": "Quota 'GPUS' exceeded"}]}

    with pytest.raises(Refused, match="QUOTA_EXCEEDED: Quota 'GPUS' exceeded"):
        gcp.cloud.set_size(4)


def test_a_group_that_is_not_there_is_refused_since_it_is_a_setting(gcp: FakeGcp) -> None:
    elsewhere = PLACE.model_copy(update={"group": "another"})
    cloud = GcpCloud(
        elsewhere,
        metadata_url=gcp.metadata.url,
        compute_url=f"{gcp.services.url}/compute/v1",
        around=gcp.clock.around,
    )

    with pytest.raises(Refused, match=r"another.*notFound"):
        cloud.set_size(0)


@pytest.mark.parametrize("end", [10**18, -1, "soon", None])
def test_a_token_without_an_end_that_is_one_is_unavailable(gcp: FakeGcp, end: object) -> None:
    gcp.metadata.change("default/token", expires_in=end)

    with pytest.raises(Unavailable, match="no token"):
        gcp.cloud.set_size(3)


@pytest.mark.parametrize("reference", ["api-key", "projects/p/secrets/../x", "https://evil/x", ""])
def test_a_reference_that_is_no_resource_name_is_refused_unasked(
    gcp: FakeGcp, reference: str
) -> None:
    with pytest.raises(Refused, match="allowed projects/P/secrets/S"):
        gcp.cloud.secret(reference)

    assert gcp.services.asked == []


def test_an_answer_of_somebody_else_is_not_believed(gcp: FakeGcp) -> None:
    # The services' server is no metadata server: it does not say so in a header.
    cloud = GcpCloud(PLACE, metadata_url=gcp.services.url, around=gcp.clock.around)

    with pytest.raises(Unavailable, match="not the metadata server"):
        cloud.notice()
