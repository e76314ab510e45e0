"""What the engine's event log says about an update."""

from __future__ import annotations

import json
import os
import sys

import pytest

from infra.cli.deployer import has_changes, shown_on
from infra.cli.screen import Screen


def summary(changes: dict[str, int], is_preview: bool = False) -> str:
    """A line of an event log as engine 3.259 writes it."""
    return json.dumps(
        {
            "sequence": 9,
            "timestamp": 1795535618,
            "summaryEvent": {
                "maybeCorrupt": False,
                "durationSeconds": 1,
                "resourceChanges": changes,
                "PolicyPacks": {},
                "isPreview": is_preview,
                "result": "succeeded",
            },
        }
    )


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([summary({"same": 12})], False),
        ([summary({"same": 11, "update": 1})], True),
        ([summary({"create": 12}, is_preview=True), summary({"same": 12})], False),
        ([summary({"same": 12}, is_preview=True), summary({"create": 1, "same": 11})], True),
        (['{"sequence": 0, "preludeEvent": {"config": {}}}', summary({"same": 1})], False),
        ([], True),
        (["{half"], True),
    ],
)
def test_only_an_update_in_which_all_stayed_the_same_changed_nothing(
    lines: list[str], expected: bool
) -> None:
    assert has_changes(iter(lines)) is expected


def test_with_json_a_child_does_not_write_between_the_lines_of_the_value(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with shown_on(Screen(is_json=True)):
        os.system("echo the engine speaks")
    sys.stdout.write("{}")
    sys.stdout.flush()

    out, err = capfd.readouterr()
    assert out == "{}"
    assert err == "the engine speaks\n"
