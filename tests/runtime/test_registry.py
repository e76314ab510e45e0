"""Model versions on a real folder store."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.coordination.log import LiveRecord, live_log
from runtime.errors import Corrupt, Missing, Refused
from runtime.objects import Store, file_url, open_store
from runtime.registry import (
    ModelVersion,
    VersionFile,
    fetch,
    live_version,
    publish,
    version_digest,
    versions,
)

AT = datetime(2026, 1, 2, tzinfo=UTC)
NAME = "tiny"


@pytest.fixture
def models(tmp_path: Path) -> Store:
    return open_store(file_url(tmp_path / "models"))


@pytest.fixture
def control(tmp_path: Path) -> Store:
    return open_store(file_url(tmp_path / "control"))


def publish_text(
    models: Store, control: Store, tmp_path: Path, text: str, run: int
) -> ModelVersion:
    """A version with a file of its own and one below a folder."""
    folder = tmp_path / f"export-{run}-{len(text)}"
    (folder / "extra").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(text)
    (folder / "extra" / "notes.txt").write_text("the same in all")
    return publish(
        models, control, NAME, folder, f"run-{run}", run, 7, {"bits_per_byte": 2.0}, "n",
        AT + timedelta(hours=run),
    )  # fmt: skip


def test_what_is_published_is_fetched_and_live(
    models: Store, control: Store, tmp_path: Path
) -> None:
    version = publish_text(models, control, tmp_path, "one", 1)

    folder = fetch(models, NAME, version.digest, tmp_path / "here")

    assert (folder / "config.json").read_text() == "one"
    assert (folder / "extra" / "notes.txt").read_text() == "the same in all"
    live = live_version(control, NAME)
    assert live is not None
    assert (live.digest, live.run, live.kind) == (version.digest, "run-1", "auto")
    assert versions(models, NAME) == [version]


def test_publishing_again_after_a_crash_changes_nothing(
    models: Store, control: Store, tmp_path: Path
) -> None:
    first = publish_text(models, control, tmp_path, "one", 1)

    again = publish_text(models, control, tmp_path, "one", 1)

    assert again == first
    assert len(live_log(control, NAME).read()) == 1


def test_an_older_run_that_publishes_late_does_not_take_over(
    models: Store, control: Store, tmp_path: Path
) -> None:
    newer = publish_text(models, control, tmp_path, "newer", 2)

    older = publish_text(models, control, tmp_path, "older", 1)

    live = live_version(control, NAME)
    assert live is not None
    assert live.digest == newer.digest
    assert versions(models, NAME) == [older, newer]


def test_a_pinned_version_stays_live(models: Store, control: Store, tmp_path: Path) -> None:
    first = publish_text(models, control, tmp_path, "one", 1)
    pin = LiveRecord(kind="pin", digest=first.digest, run="run-1", run_number=1, writer="op", at=AT)
    assert live_log(control, NAME).append_at(1, pin)

    publish_text(models, control, tmp_path, "two!", 2)

    live = live_version(control, NAME)
    assert live is not None
    assert live.digest == first.digest


def test_a_flipped_byte_is_never_handed_out(models: Store, control: Store, tmp_path: Path) -> None:
    version = publish_text(models, control, tmp_path, "one", 1)
    models.put(f"{NAME}/{version.digest}/config.json", b"onE")

    with pytest.raises(Corrupt, match=r"config\.json"):
        fetch(models, NAME, version.digest, tmp_path / "here")

    assert not (tmp_path / "here").exists()


def test_a_folder_damaged_on_this_machine_is_fetched_anew(
    models: Store, control: Store, tmp_path: Path
) -> None:
    version = publish_text(models, control, tmp_path, "one", 1)
    folder = fetch(models, NAME, version.digest, tmp_path / "here")
    (folder / "config.json").write_text("oops")

    fetch(models, NAME, version.digest, folder)

    assert (folder / "config.json").read_text() == "one"


def test_a_manifest_that_was_changed_is_corrupt(
    models: Store, control: Store, tmp_path: Path
) -> None:
    version = publish_text(models, control, tmp_path, "one", 1)
    key = f"{NAME}/{version.digest}/manifest.json"
    other = VersionFile(path="config.json", sha256="0" * 64, size_bytes=3)
    changed = version.model_copy(update={"files": (other,)})
    models.put(key, changed.model_dump_json().encode())

    with pytest.raises(Corrupt, match="digest"):
        fetch(models, NAME, version.digest, tmp_path / "here")
    assert versions(models, NAME) == []


def test_a_manifest_can_not_write_outside_the_folder(models: Store, tmp_path: Path) -> None:
    models.put("secret", b"x")
    evil = VersionFile(path="../../escaped", sha256="0" * 64, size_bytes=1)
    digest = version_digest([evil])
    manifest = ModelVersion(
        name=NAME, digest=digest, run="r", step=1, metrics={}, created_at=AT, files=(evil,)
    )
    models.put(f"{NAME}/{digest}/manifest.json", manifest.model_dump_json().encode())

    with pytest.raises(Corrupt, match="inside the folder"):
        fetch(models, NAME, digest, tmp_path / "a" / "b")

    assert not (tmp_path / "escaped").exists()


def test_half_published_files_are_no_version(models: Store, tmp_path: Path) -> None:
    models.put(f"{NAME}/{'0' * 64}/config.json", b"one")

    assert versions(models, NAME) == []
    with pytest.raises(Missing):
        fetch(models, NAME, "0" * 64, tmp_path / "here")


def test_an_empty_folder_is_refused(models: Store, control: Store, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()

    with pytest.raises(Refused, match="no files"):
        publish(models, control, NAME, empty, "run-1", 1, 1, {}, "n", AT)
