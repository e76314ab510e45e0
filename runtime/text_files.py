"""Which files a folder of text has: all but hidden ones. The same for who packs and who reads."""

from collections.abc import Iterator
from pathlib import Path

from runtime.errors import Refused

FILES_MAX = 200_000


def text_files(root: Path) -> Iterator[Path]:
    """The file itself, or those below the folder; raises Refused if there are too many."""
    if root.is_file():
        yield root
        return
    for count, path in enumerate(root.rglob("*")):
        if count >= FILES_MAX:
            raise Refused(f"training.data: found over {FILES_MAX} entries in {root}")
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(root).parts):
            yield path
