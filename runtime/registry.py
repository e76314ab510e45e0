"""Model versions: published files, named by their digest, and which of them is live.

A version is `<name>/<digest>/` in the models store: its files, and `manifest.json`, written last.
No torch here: the operator's side reads it too.
"""

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.coordination.log import APPEND_TRIES, LiveRecord, live_log, next_live
from runtime.errors import Conflict, Corrupt, Missing, Refused
from runtime.objects import Store

MANIFEST = "manifest.json"
FILES_MAX = 10_000


class VersionFile(BaseModel):
    """A file of a version, by its path in the folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    sha256: str
    size_bytes: int


class ModelVersion(BaseModel):
    """The manifest of a version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    digest: str
    run: str
    step: int
    metrics: dict[str, float]  # of its last validation
    created_at: datetime
    files: tuple[VersionFile, ...]


def version_digest(files: Iterable[VersionFile]) -> str:
    """SHA-256 over the sorted lines `<path> <sha256>`: the same files, the same digest."""
    lines = sorted(f"{file.path} {file.sha256}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def publish(
    models: Store,
    control: Store,
    name: str,
    folder: Path,
    run: str,
    run_number: int,
    step: int,
    metrics: Mapping[str, float],
    writer: str,
    at: datetime,
) -> ModelVersion:
    """Publish a folder and let it take over from older runs; safe to repeat after a crash.

    Raises Refused for an empty folder, Unavailable if the store does not answer.
    """
    files = tuple(_describe(folder))
    if not files:
        raise Refused(f"{folder}: found no files; a model version needs at least one")
    version = ModelVersion(
        name=name,
        digest=version_digest(files),
        run=run,
        step=step,
        metrics=dict(metrics),
        created_at=at,
        files=files,
    )
    prefix = f"{name}/{version.digest}"
    for file in files:
        models.put(f"{prefix}/{file.path}", folder / file.path)
    manifest = version.model_dump_json(indent=1).encode()
    if not models.put_if_absent(f"{prefix}/{MANIFEST}", manifest):
        version = read_version(models, name, version.digest)  # published before, by us or a twin
    _take_over(control, name, version.digest, run, run_number, writer, at)
    return version


def live_version(control: Store, name: str) -> LiveRecord | None:
    """The record that says which version answers; None before the first."""
    return next(iter(reversed(live_log(control, name).read())), None)


def read_version(models: Store, name: str, digest: str) -> ModelVersion:
    """The manifest of a version; raises Missing, or Corrupt if it does not fit its name."""
    key = f"{name}/{digest}/{MANIFEST}"
    try:
        version = ModelVersion.model_validate_json(models.get(key))
    except ValidationError as fault:
        raise Corrupt(f"{models.url}/{key}: {fault}") from fault
    if version_digest(version.files) != digest or version.name != name:
        raise Corrupt(f"{models.url}/{key}: its files do not add up to the digest it is kept under")
    return version


def versions(models: Store, name: str) -> list[ModelVersion]:
    """All published versions of a name, oldest first; one with a damaged manifest is left out."""
    found = []
    for info in models.list(name):
        path = PurePosixPath(info.key)
        if path.name != MANIFEST or len(path.parts) != 3:
            continue
        try:
            found.append(read_version(models, name, path.parts[1]))
        except (Corrupt, Missing):
            continue
    return sorted(found, key=lambda version: version.created_at)


def fetch(models: Store, name: str, digest: str, folder: Path) -> Path:
    """Bring a version to `folder`, every file verified, or raise Missing, Corrupt or Unavailable.

    The folder is complete or absent; one that is there and sound is kept.
    """
    version = read_version(models, name, digest)
    if folder.exists() and all(_fits(folder / file.path, file) for file in version.files):
        return folder
    partial = folder.with_name(f"{folder.name}.partial")
    for stale in (partial, folder):
        shutil.rmtree(stale, ignore_errors=True)
    for file in version.files:
        path = partial / _inside(file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        models.get_file(f"{name}/{digest}/{file.path}", path)
        if not _fits(path, file):
            raise Corrupt(
                f"{models.url}/{name}/{digest}/{file.path}: found SHA-256 {_sha256(path)}, "
                f"the manifest says {file.sha256}"
            )
    partial.rename(folder)
    return folder


def _take_over(
    control: Store, name: str, digest: str, run: str, run_number: int, writer: str, at: datetime
) -> None:
    log = live_log(control, name)
    for _ in range(APPEND_TRIES):
        record = next_live(log.read(), digest, run, run_number, writer, at)
        if record is None or log.append_at(len(log.records), record):
            return
    raise Conflict(f"model {name}: lost {APPEND_TRIES} appends in a row")


def _describe(folder: Path) -> Iterable[VersionFile]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    assert len(paths) <= FILES_MAX, "a model folder has a few files"
    for path in paths:
        yield VersionFile(
            path=path.relative_to(folder).as_posix(),
            sha256=_sha256(path),
            size_bytes=path.stat().st_size,
        )


def _fits(path: Path, file: VersionFile) -> bool:
    return (
        path.is_file() and path.stat().st_size == file.size_bytes and _sha256(path) == file.sha256
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _inside(path: str) -> str:
    """A manifest from a store may be anybody's: it must not lead out of the folder."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise Corrupt(f"model manifest: found path {path!r}; allowed paths inside the folder")
    return path
