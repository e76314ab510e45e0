"""A wall clock that jumps under a running process; its monotonic clock goes on as ever."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path


class FakeClock:
    """What a process started with `env` reads as the time, by libfaketime."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump("+0")
        package = find_spec("libfaketime")
        assert package is not None
        assert package.origin is not None, "a package of the tests"
        (library,) = Path(package.origin).parent.rglob("libfaketime.so.1")
        self.env: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",  # times of files are the store's
        }

    def jump(self, offset: str) -> None:
        """To so far from the true time, `+3h`."""
        self._file.write_text(offset + "\n")
