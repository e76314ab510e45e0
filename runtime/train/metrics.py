"""Figures of one epoch of a run: JSON lines and TensorBoard files in the checkpoint store.

All members have them, the first one uploads them. If it is lost, the next first member does so for
it: the same steps, as another member saw them. A thread uploads; figures that can't be uploaded now
are uploaded with the next ones, and never hold up a step.
"""

import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.event_file_writer import EventFileWriter  # type: ignore[import-untyped]

from runtime.errors import AtollError, Missing
from runtime.objects import Store

UPLOAD_S = 3.0
STEP = "step"
AT = "at"  # seconds since 1970, by the clock of who has the line

log = logging.getLogger(__name__)


class Lines:
    """Figures of one epoch, as every member has them. `add` is for one thread."""

    def __init__(self, store: Store, run: str, epoch: int) -> None:
        self._store = store
        self._key = f"{run}/metrics/{epoch}.jsonl"
        self._lines: list[str] = []

    def add(self, wall_time_s: float, line: Mapping[str, float]) -> None:
        """A line of figures of one step, and when it was; keys never change their meaning."""
        self._lines.append(json.dumps({AT: wall_time_s} | dict(line)) + "\n")

    def close(self) -> None:
        """Nothing is under way."""

    def upload(self) -> None:
        """Upload what the epoch's own first member can't any more; a fault is for the next time."""
        try:
            self.save_lost()
        except AtollError as fault:
            log.warning("metrics not uploaded: %s", fault)

    def save_lost(self) -> None:
        """The same; raises what the store does."""
        mine = "".join(self._lines).encode()
        try:
            there = self._store.get(self._key)
        except Missing:
            there = b""
        if len(mine.splitlines()) > len(there.splitlines()):
            self._store.put(self._key, mine)


class Metrics(Lines):
    """The files of one epoch, by its first member."""

    def __init__(
        self, store: Store, run: str, epoch: int, folder: Path, lost: Lines | None = None
    ) -> None:
        """`lost` are the figures of the epoch before, whose first member is gone."""
        super().__init__(store, run, epoch)
        self._lost = lost
        self._board_key = f"{run}/tensorboard/{epoch}"
        self._folder = folder
        self._uploaded = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._board: EventFileWriter | None = EventFileWriter(str(folder))
        self._uploading = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep_uploading, name="metrics", daemon=True)
        self._thread.start()

    def add(self, wall_time_s: float, line: Mapping[str, float]) -> None:
        """A line of figures of one step; keys never change their meaning."""
        super().add(wall_time_s, line)
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in line.items()
            if name != STEP
        ]
        event = Event(wall_time=wall_time_s, step=int(line[STEP]), summary=Summary(value=values))
        assert self._board is not None, "open"
        self._board.add_event(event)

    def close(self) -> None:
        """Upload the rest."""
        self._closed.set()
        self._thread.join()
        self.upload()
        if self._board is not None:
            self._board.close()
            self._board = None  # a checkpoint that is still being written may upload once more

    def upload(self) -> None:
        """Upload what is new, from any thread; a fault is for the next time."""
        with self._uploading:
            self._upload()

    def _keep_uploading(self) -> None:
        self.upload()
        while not self._closed.wait(UPLOAD_S):
            self.upload()

    def _upload(self) -> None:
        count = len(self._lines)
        try:
            if self._lost is not None:
                self._lost.save_lost()
                self._lost = None
            if count == self._uploaded:
                return
            self._store.put(self._key, "".join(self._lines[:count]).encode())
            if self._board is not None:
                self._board.flush()
            for path in self._folder.iterdir():
                self._store.put(f"{self._board_key}/{path.name}", path.read_bytes())
        except AtollError as fault:
            log.warning("metrics not uploaded: %s", fault)
            return
        self._uploaded = count
