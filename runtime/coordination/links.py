"""Links between the agents of a run: statuses both ways, and the end of a link as the first sign.

A killed process closes its connections, so its peers know at once; a frozen one is silent, and its
link is closed after the watchdog's time. Every member dials those it finds in the store; two links
between the same two do no harm.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from runtime.coordination.channel import Channel
from runtime.coordination.log import EpochRecord
from runtime.coordination.membership import Heard, Lost
from runtime.coordination.next_epoch import Status
from runtime.errors import AtollError, Unavailable
from runtime.limits import HEARTBEAT_S, LINK_S, LINKS_MAX

log = logging.getLogger(__name__)


class Told(BaseModel):
    """A frame: the sender's status."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["status"] = "status"
    told_ns: int  # the sender's monotonic clock: two links may bring statuses out of order
    status: Status


class Decided(BaseModel):
    """A frame: a record that the sender has read in the log, or written there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["decided"] = "decided"
    number: int
    record: EpochRecord


FRAMES: TypeAdapter[Told | Decided] = TypeAdapter(
    Annotated[Told | Decided, Field(discriminator="kind")]
)


class Links:
    """All links of one node in one run. What is heard goes to `hear`, from several threads."""

    def __init__(
        self,
        status: Status,
        key: bytes,
        watchdog_s: float,
        hear: Callable[[Heard | Lost | Decided], None],
    ) -> None:
        self._told = _told(status)
        self._key = key
        self._watchdog_s = watchdog_s
        self._hear = hear
        self._lock = threading.Lock()
        self._open: dict[Channel, tuple[str, str]] = {}  # to (node, boot id)
        self._newest: dict[tuple[str, str], int] = {}  # when the last status heard was told
        self._dialing: set[str] = set()
        self._closed = threading.Event()
        self._listener = socket.create_server((status.address, 0), backlog=LINKS_MAX)
        self.port = int(self._listener.getsockname()[1])
        for work in (self._accept, self._beat):
            threading.Thread(target=work, name="links", daemon=True).start()

    def dial(self, node: str, boot_id: str, host: str, port: int) -> None:
        """Link up with a peer in the background, unless there is a link."""
        with self._lock:
            if (node, boot_id) in self._open.values() or boot_id in self._dialing:
                return
            self._dialing.add(boot_id)
        args = (node, boot_id, host, port)
        threading.Thread(target=self._dial, args=args, name=f"link {node}", daemon=True).start()

    def tell(self, status: Status) -> None:
        """To all peers now, and with every heartbeat."""
        with self._lock:
            self._told = _told(status)
        self._send(self._told)

    def decided(self, number: int, record: EpochRecord) -> None:
        """Spare all peers the reading of the log."""
        self._send(Decided(number=number, record=record))

    def close(self) -> None:
        """Leave all; idempotent."""
        self._closed.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        for channel in self._channels():
            channel.close()

    def _channels(self) -> list[Channel]:
        with self._lock:
            return [*self._open]

    def _send(self, frame: Told | Decided) -> None:
        payload = frame.model_dump_json().encode()
        for channel in self._channels():
            try:
                channel.send(payload)
            except Unavailable:
                channel.close()  # its reader tells

    def _beat(self) -> None:
        while not self._closed.wait(HEARTBEAT_S):
            self._send(self._told)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                if not self._closed.is_set():
                    log.exception("no more links are accepted")
                return
            args = (connection, False)
            threading.Thread(target=self._serve, args=args, name="link", daemon=True).start()

    def _dial(self, node: str, boot_id: str, host: str, port: int) -> None:
        try:
            connection = socket.create_connection((host, port), timeout=LINK_S)
            self._serve(connection, True, boot_id)
        except OSError as fault:
            log.info("no link to %s: %s", node, fault)
        finally:
            with self._lock:
                self._dialing.discard(boot_id)

    def _serve(self, connection: socket.socket, is_dialer: bool, boot_id: str = "") -> None:
        """Until the link ends."""
        channel: Channel | None = None
        silent_s = 0.0
        try:
            connection.settimeout(LINK_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            channel = Channel(connection, self._key, is_dialer=is_dialer)
            channel.send(self._told.model_dump_json().encode())
            # Silence for so long is what the watchdog is about.
            connection.settimeout(self._watchdog_s)
            while not self._closed.is_set():
                self._take(channel, FRAMES.validate_json(channel.receive()))
                if boot_id:
                    with self._lock:
                        self._dialing.discard(boot_id)
        except (AtollError, ValidationError, OSError) as fault:
            log.debug("link ended: %s", fault)
            if isinstance(fault.__cause__, TimeoutError):
                silent_s = self._watchdog_s
        finally:
            connection.close()
            if channel is not None:
                self._forget(channel, silent_s)

    def _take(self, channel: Channel, frame: Told | Decided) -> None:
        if isinstance(frame, Decided):
            self._hear(frame)
            return
        peer = (frame.status.node, frame.status.boot_id)
        with self._lock:
            is_new = channel not in self._open
            self._open[channel] = peer
            if frame.told_ns >= self._newest.get(peer, 0):
                self._newest[peer] = frame.told_ns
                self._hear(Heard(frame.status))
        if is_new:  # what was told since the greeting did not go this way
            channel.send(self._told.model_dump_json().encode())

    def _forget(self, channel: Channel, silent_s: float) -> None:
        channel.close()
        with self._lock:
            peer = self._open.pop(channel, None)
            is_last = peer is not None and peer not in self._open.values()
            if peer is not None and is_last and not self._closed.is_set():
                self._hear(Lost(*peer, silent_s))


def _told(status: Status) -> Told:
    return Told(told_ns=time.monotonic_ns(), status=status)
