"""Where this clone keeps what it makes: one ignored folder; removing the clone removes it."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def home() -> Path:
    """The folder of stacks, state and logs: `.atoll` in the clone, or $ATOLL_HOME."""
    return Path(os.environ.get("ATOLL_HOME") or ROOT / ".atoll").absolute()


def stack_folder(home: Path, stack_id: str) -> Path:
    """All files of one stack on this machine."""
    return home / "stacks" / stack_id
