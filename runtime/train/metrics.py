"""Figures of one epoch of a run: JSON lines and TensorBoard files in the checkpoint store.

Written by the first member only. A thread uploads them; figures that can't be uploaded now are
uploaded with the next ones, and never hold up a step.
"""

import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.event_file_writer import EventFileWriter  # type: ignore[import-untyped]

from runtime.errors import AtollError
from runtime.objects import Store

UPLOAD_S = 3.0
STEP = "step"

log = logging.getLogger(__name__)


class Metrics:
    """The files of one epoch. `add` is for one thread."""

    def __init__(self, store: Store, run: str, epoch: int, folder: Path) -> None:
        self._store = store
        self._key = f"{run}/metrics/{epoch}.jsonl"
        self._board_key = f"{run}/tensorboard/{epoch}"
        self._folder = folder
        self._lines: list[str] = []
        self._uploaded = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._board = EventFileWriter(str(folder))
        self._uploading = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep_uploading, name="metrics", daemon=True)
        self._thread.start()

    def add(self, wall_time_s: float, line: Mapping[str, float]) -> None:
        """A line of figures of one step; keys never change their meaning."""
        self._lines.append(json.dumps(line) + "\n")
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in line.items()
            if name != STEP
        ]
        event = Event(wall_time=wall_time_s, step=int(line[STEP]), summary=Summary(value=values))
        self._board.add_event(event)

    def close(self) -> None:
        """Upload the rest."""
        self._closed.set()
        self._thread.join()
        self.upload()
        self._board.close()

    def upload(self) -> None:
        """Upload what is new, from any thread; a fault is for the next time."""
        with self._uploading:
            self._upload()

    def _keep_uploading(self) -> None:
        while not self._closed.wait(UPLOAD_S):
            self.upload()

    def _upload(self) -> None:
        count = len(self._lines)
        if count == self._uploaded:
            return
        try:
            self._store.put(self._key, "".join(self._lines[:count]).encode())
            self._board.flush()
            for path in self._folder.iterdir():
                self._store.put(f"{self._board_key}/{path.name}", path.read_bytes())
        except AtollError as fault:
            log.warning("metrics not uploaded: %s", fault)
            return
        self._uploaded = count
