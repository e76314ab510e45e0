"""Where this clone keeps what it makes: one ignored folder; removing the clone removes it."""

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

ROOT = Path(__file__).resolve().parent.parent
MARKER = "stack.json"


class StackMarker(BaseModel):
    """Says whose a stack folder is; found without Pulumi's state."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stack: str
    stack_id: str
    project: str
    home: str
    cloud: str = "local"
    region: str | None = None  # of a rented cloud
    is_complete: bool = False  # an `up` has reached its end; else a killed one may be adopted


def home() -> Path:
    """The folder of stacks, state and logs: `.atoll` in the clone, or $ATOLL_HOME."""
    return Path(os.environ.get("ATOLL_HOME") or ROOT / ".atoll").absolute()


def stack_folder(home: Path, stack_id: str) -> Path:
    """All files of one stack on this machine."""
    return home / "stacks" / stack_id


def markers(home: Path) -> Iterator[StackMarker]:
    """All stacks of a home, the newest first; a folder without a readable marker is none."""
    for path in sorted(home.glob(f"stacks/*/{MARKER}"), key=_written_at, reverse=True):
        try:
            yield StackMarker.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue


def write_marker(marker: StackMarker) -> None:
    """Write or renew the marker of a stack; raises OSError."""
    folder = stack_folder(Path(marker.home), marker.stack_id)
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / MARKER, marker.model_dump_json())


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file, in whole or not at all; raises OSError."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    partial.replace(path)


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # a `destroy` has removed it just now
        return 0.0
