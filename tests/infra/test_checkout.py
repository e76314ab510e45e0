"""Markers in a home: found newest first, and never seen half written."""

import os
import resource
import threading
from pathlib import Path

import pytest

from infra.checkout import (
    MARKER,
    ROOT,
    StackMarker,
    home,
    markers,
    replace_file,
    stack_folder,
    write_marker,
)

ROUNDS = 5000  # looks at what changes meanwhile: enough to meet each moment of a change


def marker(home: Path, stack_id: str, *, is_complete: bool = False) -> StackMarker:
    """A marker as Proof makes it."""
    return StackMarker(
        stack="local",
        stack_id=stack_id,
        project="atoll",
        home=str(home),
        is_complete=is_complete,
    )


@pytest.mark.parametrize(("given", "expected"), [("", ROOT / ".atoll"), ("/srv/x", Path("/srv/x"))])
def test_home_is_in_the_clone_unless_named(
    given: str, expected: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATOLL_HOME", given)

    assert home() == expected


def test_a_home_named_from_where_one_stands_is_the_same_for_processes_that_stand_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATOLL_HOME", "here")

    assert home() == tmp_path / "here"


def test_markers_come_newest_first_and_one_renewed_is_new(tmp_path: Path) -> None:
    made = [marker(tmp_path, stack_id) for stack_id in ("00000002", "00000003", "00000001")]
    for age_s, each in enumerate(made):
        write_marker(each)
        path = stack_folder(tmp_path, each.stack_id) / MARKER
        os.utime(path, (1e9 - age_s, 1e9 - age_s))
    before = list(markers(tmp_path))

    renewed = marker(tmp_path, "00000001", is_complete=True)
    write_marker(renewed)

    assert before == made
    assert list(markers(tmp_path)) == [renewed, *made[:2]]


def test_a_home_that_is_not_there_has_no_stacks(tmp_path: Path) -> None:
    assert list(markers(tmp_path / "none")) == []


def test_a_folder_without_a_readable_marker_is_none(tmp_path: Path) -> None:
    good = marker(tmp_path, "00000001")
    write_marker(good)
    for name, text in {
        "empty": "",
        "cut-off": good.model_dump_json()[:-1],
        "list": "[]",
        "of-a-later-version": good.model_dump_json()[:-1] + ', "colour": "red"}',
    }.items():
        (tmp_path / "stacks" / name).mkdir()
        (tmp_path / "stacks" / name / MARKER).write_text(text)
    (tmp_path / "stacks" / "folder" / MARKER).mkdir(parents=True)
    (tmp_path / "stacks" / "nothing").mkdir()
    (tmp_path / "stacks" / "link").mkdir()
    (tmp_path / "stacks" / "link" / MARKER).symlink_to(tmp_path / "nowhere")

    assert list(markers(tmp_path)) == [good]


def test_stacks_that_come_and_go_meanwhile_hide_no_other(tmp_path: Path) -> None:
    stays, goes = marker(tmp_path, "00000001"), marker(tmp_path, "00000002")
    write_marker(stays)
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            write_marker(goes)
            (stack_folder(tmp_path, goes.stack_id) / MARKER).unlink()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        seen = [list(markers(tmp_path)) for _ in range(ROUNDS)]
    finally:
        stop.set()
        thread.join()

    assert all(stays in found for found in seen)


def test_a_marker_renewed_all_the_time_is_always_read_whole(tmp_path: Path) -> None:
    both = [marker(tmp_path, "00000001", is_complete=is_complete) for is_complete in (False, True)]
    write_marker(both[0])
    stop = threading.Event()

    def renew() -> None:
        while not stop.is_set():
            for each in both:
                write_marker(each)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        seen = [list(markers(tmp_path)) for _ in range(ROUNDS)]
    finally:
        stop.set()
        thread.join()

    assert all(len(found) == 1 and found[0] in both for found in seen)


def test_on_a_full_disk_the_old_text_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))  # bytes of any file, from now on
    try:
        with pytest.raises(OSError, match="File too large"):
            replace_file(path, "new, and longer")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert path.read_text() == "old"
