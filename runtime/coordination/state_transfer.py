"""State from a live peer: its files, one after the other, over an authenticated channel.

The source serves a snapshot that no later step changes. Each file is announced by its size and
SHA-256, sent in parts at a bounded rate, so that training has its share of the network, and checked
by who fetches it. No torch here: what the files hold is training's affair.
"""

import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from runtime.coordination.channel import Channel
from runtime.errors import AtollError, Corrupt, Unavailable
from runtime.limits import LINK_S, LINKS_MAX

PART_BYTES = 1 << 20
FILE_BYTES_MAX = 1 << 40


class StateServer:
    """Serves one snapshot to all who have the key, until closed."""

    def __init__(
        self,
        host: str,
        key: bytes,
        files: Sequence[bytes],
        *,
        bytes_per_s: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._key = key
        self._files = files
        self._bytes_per_s = bytes_per_s
        self._sleep = sleep
        self._listener = socket.create_server((host, 0), backlog=LINKS_MAX)
        self.address = f"{host}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, name="state", daemon=True).start()

    def close(self) -> None:
        """Take no more; those that are being served are served to the end."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.settimeout(LINK_S)
                channel = Channel(connection, self._key, is_dialer=False)
                channel.send(json.dumps([describe(content) for content in self._files]).encode())
                for content in self._files:
                    for at in range(0, len(content), PART_BYTES):
                        part = memoryview(content)[at : at + PART_BYTES]
                        channel.send(part)
                        self._sleep(len(part) / self._bytes_per_s)
            except AtollError:
                return  # who fetches sees it too, and asks elsewhere


def describe(content: bytes) -> dict[str, str | int]:
    """Size and SHA-256 of a file."""
    return {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def fetch(address: str, key: bytes) -> Iterator[bytes]:
    """The files of a snapshot, each whole and verified; raises Unavailable or Corrupt."""
    host, _, port = address.rpartition(":")
    try:
        connection = socket.create_connection((host, int(port)), timeout=LINK_S)
    except OSError as fault:
        raise Unavailable(f"state of {address}: {fault}") from fault
    with connection:
        channel = Channel(connection, key, is_dialer=True)
        for file in json.loads(channel.receive()):
            content = _receive(channel, file["size_bytes"])
            if describe(content) != file:
                raise Corrupt(f"state of {address}: a file's SHA-256 does not fit")
            yield content


def _receive(channel: Channel, size_bytes: int) -> bytes:
    if not 0 <= size_bytes <= FILE_BYTES_MAX:
        raise Corrupt(f"state: found a file of {size_bytes} bytes")
    content = bytearray()
    while len(content) < size_bytes:
        content += channel.receive()
    return bytes(content)
