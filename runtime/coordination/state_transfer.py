"""State from a live peer: its files, one after the other, over an authenticated channel.

Each file is announced by its size and sent in parts at a bounded rate, so that others have their
share of the network. Frames are numbered and sealed, so what arrives is what was sent. A file is
made when its turn comes: the state need not fit into memory twice. No torch here: what the files
hold is training's affair.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from runtime.coordination.channel import Channel
from runtime.errors import AtollError, Corrupt, Unavailable
from runtime.limits import LINK_S, LINKS_MAX

PART_BYTES = 1 << 20
FILE_BYTES_MAX = 1 << 40
SIZE_BYTES = 8
END = b""  # in place of a size


class StateServer:
    """Serves one state to all who have the key, until closed; nobody gets any of it afterwards.

    `files` makes its files, anew for each who asks. Until `close`, what they are
    made of must not change.
    """

    def __init__(
        self,
        host: str,
        key: bytes,
        files: Callable[[], Iterable[bytes]],
        *,
        bytes_per_s: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._key = key
        self._files = files
        self._bytes_per_s = bytes_per_s
        self._sleep = sleep
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._is_closed = False
        self._listener = socket.create_server((host, 0), backlog=LINKS_MAX)
        self.address = f"{host}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, name="state", daemon=True).start()

    def close(self) -> None:
        """Cut off who is still being served: after this the state may change."""
        with self._lock:
            self._is_closed = True
            for connection in (self._listener, *self._open):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
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
            with self._lock:
                if self._is_closed:
                    return
                self._open.add(connection)
            try:
                connection.settimeout(LINK_S)
                self._send(Channel(connection, self._key, is_dialer=False))
            except AtollError:
                return  # who fetches sees it too, and asks elsewhere
            finally:
                with self._lock:
                    self._open.discard(connection)

    def _send(self, channel: Channel) -> None:
        for content in self._files():
            channel.send(len(content).to_bytes(SIZE_BYTES, "big"))
            for at in range(0, len(content), PART_BYTES):
                part = memoryview(content)[at : at + PART_BYTES]
                channel.send(part)
                self._sleep(len(part) / self._bytes_per_s)
        channel.send(END)


def fetch(address: str, key: bytes) -> Iterator[bytes]:
    """The files of a state, each whole; raises Unavailable or Corrupt."""
    host, _, port = address.rpartition(":")
    try:
        connection = socket.create_connection((host, int(port)), timeout=LINK_S)
    except OSError as fault:
        raise Unavailable(f"state of {address}: {fault}") from fault
    with connection:
        channel = Channel(connection, key, is_dialer=True)
        while (size := channel.receive()) != END:
            yield _receive(channel, int.from_bytes(size, "big"))


def _receive(channel: Channel, size_bytes: int) -> bytes:
    if size_bytes > FILE_BYTES_MAX:
        raise Corrupt(f"state: found a file of {size_bytes} bytes; allowed {FILE_BYTES_MAX}")
    content = bytearray()
    while len(content) < size_bytes:
        content += channel.receive()
    if len(content) > size_bytes:
        raise Corrupt(f"state: found {len(content)} bytes of a file of {size_bytes}")
    return bytes(content)
