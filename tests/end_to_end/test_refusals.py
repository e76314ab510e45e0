"""What an `up` refuses, through the real engine: in one message, with nothing made."""

import os
import socket
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Clone

pytestmark = pytest.mark.slow

STACK = "bad"


@pytest.fixture(autouse=True)
def stack(clone: Clone) -> str:
    """Made, but nothing in it."""
    clone.write_stack(STACK)
    clone.init(STACK)
    return STACK


def test_all_faults_of_a_stack_file_come_at_once_and_nothing_is_made(clone: Clone) -> None:
    clone.write_stack(
        STACK,
        cluster={"cloud": "mars"},
        training={"nodes": 0, "stepps": 5, "learning_rate": "fast", "min_nodes": 3},
        serving={"max_tokens": 4000},
        access={"port": 99999},
    )

    upped = clone.pulumi("up", "--yes", "--stack", STACK)
    planned = clone.run("atoll", "plan", "--stack", STACK)

    assert upped.status != 0
    for at in (
        "atoll:cluster.cloud",
        "atoll:training.nodes",
        "atoll:training.stepps",
        "atoll:training.learning_rate",
        "atoll:serving.max_tokens",
        "atoll:access.port",
    ):
        assert at in upped.out + upped.said
        assert at in planned.said
    assert "write steps" in planned.said
    assert "Traceback" not in upped.out + upped.said
    assert not list(clone.home.glob("stacks/*"))


def test_a_data_folder_without_text_is_refused_before_anything_is_made(clone: Clone) -> None:
    empty = clone.root / "empty"
    empty.mkdir()
    clone.write_stack(STACK, training={"data": str(empty)})

    upped = clone.pulumi("up", "--yes", "--stack", STACK)

    assert upped.status != 0
    assert f"atoll:training.data: found no text in {empty}" in upped.out + upped.said
    assert not list(clone.home.glob("stacks/*"))


def test_a_taken_port_is_named_with_its_holder_and_the_next_up_goes_on(clone: Clone) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        clone.write_stack(STACK, access={"address": "127.0.0.1", "port": port})

        refused = clone.pulumi("up", "--yes", "--stack", STACK)
    upped = clone.pulumi("up", "--yes", "--stack", STACK)
    destroyed = clone.pulumi("destroy", "--yes", "--stack", STACK)

    assert refused.status != 0
    assert f"127.0.0.1:{port}: found it taken by pid {os.getpid()}" in refused.out
    assert upped.status == 0, upped.out
    assert destroyed.status == 0, destroyed.out
    assert "0 left" in destroyed.out


def test_a_home_that_can_not_be_written_is_refused_in_a_sentence(clone: Clone) -> None:
    clone.write_stack(STACK)
    clone.env["ATOLL_HOME"] = "/sys/atoll"  # nobody may write there, root neither

    try:
        by_atoll = clone.run("atoll", "up", "--stack", STACK)
        by_hand = clone.pulumi("up", "--yes", "--stack", STACK)
    finally:
        del clone.env["ATOLL_HOME"]

    assert by_atoll.status == 1
    assert "allowed a folder that can be written to" in by_atoll.said
    assert by_hand.status != 0
    assert "/sys/atoll; allowed a folder that can be written to" in by_hand.out
    assert "Traceback" not in by_atoll.said + by_hand.out + by_hand.said
    assert not Path("/sys/atoll").exists()
