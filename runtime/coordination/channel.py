"""Frames over a TCP connection between two that hold the same key.

Each side draws a nonce; a session key is HMAC-SHA256 of both under the shared one, and each proves
that it has it before anything else is read. A frame carries a MAC over its direction, number and
bytes, so it can be neither forged, nor replayed, nor left out. Nothing is hidden: who
may read a node's network is the network's affair.
"""

import hashlib
import hmac
import secrets
import socket
import threading
from contextlib import suppress

from runtime.errors import Refused, Unavailable

Buffer = bytes | bytearray | memoryview

NONCE_BYTES = 16
MAC_BYTES = 32
LENGTH_BYTES = 4
FRAME_BYTES_MAX = 4 << 20
DIALER, ANSWERER = b"d", b"a"


class Channel:
    """One end. One thread may receive while others send."""

    def __init__(self, connection: socket.socket, key: bytes, *, is_dialer: bool) -> None:
        """Shake hands within the connection's own timeout.

        Raises Refused if the other side has another key, Unavailable if it goes away.
        """
        self._connection = connection
        self._mine, self._theirs = (DIALER, ANSWERER) if is_dialer else (ANSWERER, DIALER)
        self._sending = threading.Lock()
        self._sent = self._received = 0
        nonce = secrets.token_bytes(NONCE_BYTES)
        self._write(nonce)
        other = self._read(NONCE_BYTES)
        both = nonce + other if is_dialer else other + nonce
        self._key = hmac.digest(key, both, hashlib.sha256)
        self._write(hmac.digest(self._key, self._mine, hashlib.sha256))
        proof = self._read(MAC_BYTES)
        if not hmac.compare_digest(proof, hmac.digest(self._key, self._theirs, hashlib.sha256)):
            self.close()
            raise Refused("link: found a peer with another key; allowed members of the same run")

    def send(self, payload: Buffer) -> None:
        """One frame; raises Unavailable."""
        view = memoryview(payload).cast("B")
        assert len(view) <= FRAME_BYTES_MAX, "larger things are sent in parts"
        with self._sending:
            head = len(view).to_bytes(LENGTH_BYTES, "big")
            self._write(head + self._mac(self._mine, self._sent, view))
            self._write(view)
            self._sent += 1

    def receive(self) -> bytes:
        """The next frame; raises Unavailable when the peer is gone, silent, or not itself."""
        length = int.from_bytes(self._read(LENGTH_BYTES), "big")
        if length > FRAME_BYTES_MAX:
            raise Unavailable(f"link: found a frame of {length} bytes; allowed {FRAME_BYTES_MAX}")
        mac = self._read(MAC_BYTES)
        payload = self._read(length)
        if not hmac.compare_digest(mac, self._mac(self._theirs, self._received, payload)):
            raise Unavailable("link: a frame was changed on its way")
        self._received += 1
        return payload

    def close(self) -> None:
        """Wake whoever reads; idempotent."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _mac(self, side: bytes, number: int, payload: Buffer) -> bytes:
        mac = hmac.new(self._key, side + number.to_bytes(8, "big"), hashlib.sha256)
        mac.update(payload)
        return mac.digest()

    def _write(self, data: Buffer) -> None:
        try:
            self._connection.sendall(data)
        except OSError as fault:
            raise Unavailable(f"link: {fault}") from fault

    def _read(self, size: int) -> bytes:
        data = bytearray(size)
        view, at = memoryview(data), 0
        while at < size:
            try:
                got = self._connection.recv_into(view[at:])
            except OSError as fault:
                raise Unavailable(f"link: {fault}") from fault
            if got == 0:
                raise Unavailable("link: the peer closed it")
            at += got
        return bytes(data)
