"""Figures of one epoch of a run: JSON lines and TensorBoard files in the checkpoint store.

All members have them, the first one uploads them. If it is lost, the next first member does so for
it: the same steps, as another member saw them. A thread uploads; figures that can't be uploaded now
are uploaded with the next ones, and never hold up a step. Every step is a line; TensorBoard, which
draws 1,000 points of a curve by default, gets some of those that take no longer than `BOARD_S`.
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

UPLOAD_S = 3.0  # from upload to upload, while there is little
UPLOAD_BYTES_S = 1 << 20  # all goes each time, so a long epoch's goes less often
BOARD_S = 0.25  # at least, from point to point of a curve
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
        self._size_bytes = 0  # of the last upload
        self._drawn = 0  # lines that TensorBoard has, or need not have
        self._drawn_s: dict[frozenset[str], float] = {}  # the last point of each kind of line
        folder.mkdir(parents=True, exist_ok=True)
        self._board: EventFileWriter | None = EventFileWriter(str(folder))
        self._uploading = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep_uploading, name="metrics", daemon=True)
        self._thread.start()

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
        while not self._closed.wait(max(UPLOAD_S, self._size_bytes / UPLOAD_BYTES_S)):
            self.upload()

    def _upload(self) -> None:
        count = len(self._lines)
        try:
            if self._lost is not None:
                self._lost.save_lost()
                self._lost = None
            if count == self._uploaded:
                return
            content = "".join(self._lines[:count]).encode()
            self._size_bytes = len(content)
            self._store.put(self._key, content)
            self._draw(count)
            for path in self._folder.iterdir():
                self._store.put(f"{self._board_key}/{path.name}", path.read_bytes())
        except AtollError as fault:
            log.warning("metrics not uploaded: %s", fault)
            return
        self._uploaded = count

    def _draw(self, count: int) -> None:
        """Write lines up to `count` for TensorBoard, in this thread: it costs more than JSON."""
        if self._board is None:
            return
        for text in self._lines[self._drawn : count]:
            line = json.loads(text)
            wall_time_s, step = line.pop(AT), line.pop(STEP)
            kind = frozenset(line)
            # A clock that was set back must not end the curve.
            if abs(wall_time_s - self._drawn_s.get(kind, float("-inf"))) < BOARD_S:
                continue
            self._drawn_s[kind] = wall_time_s
            values = [Summary.Value(tag=name, simple_value=line[name]) for name in line]
            self._board.add_event(
                Event(wall_time=wall_time_s, step=int(step), summary=Summary(value=values))
            )
        self._drawn = count
        self._board.flush()
