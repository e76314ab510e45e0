"""The one-machine cloud for one node: a keeper that speaks the protocol, and a folder of secrets.

What a real keeper does with these orders is tested in `tests/infra/provider/test_keeper.py`.
"""

import os
import secrets
import socket
import threading
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from runtime.clouds.local import (
    Answer,
    LocalCloud,
    NodeDescription,
    PoolDescription,
    socket_address,
)
from tests.doubles.cloud_server import SLOW_S, Clock, Weather

ME = "training-1"


class FakeKeeper:
    """Answers the orders of one pool, unless its weather is bad."""

    def __init__(self, stack_id: str | None = None) -> None:
        self.stack_id = stack_id or secrets.token_hex(4)
        self.weather = Weather.WELL
        self.size = 2
        self.leave_by: datetime | None = None
        self.is_stopping = False
        self._closed = threading.Event()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(socket_address(self.stack_id, "training"))
        self._server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Let go of the name."""
        self._closed.set()
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with suppress(OSError), connection, connection.makefile("rwb") as stream:
            stream.write(self._weathered(stream.readline()))

    def _weathered(self, line: bytes) -> bytes:
        match self.weather:
            case Weather.AWAY:
                return b""
            case Weather.SLOW:
                self._closed.wait(SLOW_S)
                return b""
            case Weather.BROKEN | Weather.GARBLED:
                return b'{"pool": \x00\n'
            case Weather.WELL:
                return self._answer(line) + b"\n"

    def _answer(self, line: bytes) -> bytes:
        asked = Answer.validate_json(line)
        if asked["op"] == "size":
            size = int(str(asked["size"]))
            if self.is_stopping or not 0 <= size <= 4:
                why = "the pool is being stopped" if self.is_stopping else "allowed 0 to 4"
                return Answer.dump_json({"error": why})
            self.size = size
            return Answer.dump_json({"size": size})
        assert asked == {"op": "describe"}
        nodes = tuple(
            NodeDescription(
                node=f"training-{index}",
                index=index,
                address="127.0.0.1",
                pid=os.getpid(),
                state="running",
                restarts=0,
                leave_by=self.leave_by if f"training-{index}" == ME else None,
            )
            for index in range(self.size)
        )
        described = PoolDescription(
            pool="training", size=self.size, target=self.size, pid=os.getpid(), nodes=nodes
        )
        return described.model_dump_json().encode()


class FakeLocal:
    """Holds one pool of 0 to 4 nodes, and secrets."""

    name = "local"
    forbidden_says = "the pool is being stopped"
    notice_s_max = 30.0

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.metadata = FakeKeeper()
        self.cloud = LocalCloud(self.metadata.stack_id, "training", ME, around=self.clock.around)
        self.missing_secret = str(folder / "nothing")
        self._folder = folder

    @property
    def size(self) -> int:
        """Nodes that are held."""
        return self.metadata.size

    def close(self) -> None:
        """End its keeper."""
        self.metadata.close()

    def reclaim(self, left_s: float) -> None:
        """Give notice."""
        self.metadata.leave_by = self.clock.at + timedelta(seconds=left_s)

    def forbid(self) -> None:
        """Refuse orders."""
        self.metadata.is_stopping = True

    def put_secret(self, value: str) -> str:
        """Keep a secret; its reference."""
        return self._put(f"{value}\n".encode())

    def garble_secret(self, value: str) -> str:
        """Keep one that is no text; its reference."""
        return self._put(value.encode() + b"\xff")

    def _put(self, whole: bytes) -> str:
        path = self._folder / "key"
        path.touch(0o600)
        path.write_bytes(whole)
        return str(path)
