"""A balancer with its real keeper and Envoy, in front of gateways of a few lines each."""

import secrets
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from infra.clouds.local.processes import ProcessId, marked
from infra.plan.names import balancer_address, node_address
from infra.provider.balancer_keeper import start_balancer, stop_balancer
from infra.provider.envoy import ADMIN_SOCKET, Endpoint
from infra.provider.keeping.balancer import BalancerFile
from infra.provider.keeping.environment import mark
from runtime.coordination.log import Presence
from runtime.objects import Store, file_url, open_store
from tests.infra.provider.pool_under_test import only

PORT = 8080
DIES_S = 0.05  # so that the deaths of parallel requests overlap
NO_MORE: Mapping[str, str] = {}
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset


class Gateway:
    """Says its name to whoever asks, until told to behave otherwise."""

    def __init__(self, node: str, address: str) -> None:
        self.node = node
        self.address = address
        self.is_ready = True
        self.dies = False  # reads a request, then resets the connection
        self.refuses: dict[str, str] | None = None  # answers 503 with these headers
        self.asked = 0  # requests, not checks
        self.connections: set[socket.socket] = set()
        self.listen()

    def listen(self) -> None:
        """Take requests; once more after `close`."""
        self._server = ThreadingHTTPServer((self.address, PORT), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def presence(self, **changes: object) -> Presence:
        """What such a gateway writes."""
        known: dict[str, object] = {
            "node": self.node,
            "pool": "gateway",
            "role": "gateway",
            "address": self.address,
            "port": PORT,
            "boot_id": "b",
            "pid": 1,
            "state": "ready",
        }
        return Presence.model_validate(known | changes)

    def close(self) -> None:
        """End as a process does: with all its connections."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self.connections):
            with suppress(OSError):  # closed just now
                connection.shutdown(socket.SHUT_RDWR)


def _handler(gateway: Gateway) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            gateway.connections.add(self.connection)

        def finish(self) -> None:
            gateway.connections.discard(self.connection)
            super().finish()

        def do_GET(self) -> None:
            if self.path == "/readyz":
                self._answer(200 if gateway.is_ready else 503, b"")
            else:
                self._serve(b"")

        def do_POST(self) -> None:
            self._serve(self.rfile.read(int(self.headers["Content-Length"])))

        def log_message(self, format: str, *args: object) -> None:
            pass

        def _serve(self, body: bytes) -> None:
            gateway.asked += 1
            if gateway.dies:
                time.sleep(DIES_S)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                self.connection.close()
                self.close_connection = True
                return
            said = b"%s %s %d" % (gateway.node.encode(), self.path.encode(), len(body))
            if gateway.refuses is None:
                self._answer(200, said)
            else:
                self._answer(503, said, gateway.refuses)

        def _answer(self, status: int, body: bytes, headers: Mapping[str, str] = NO_MORE) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def admin(folder: Path, path: str) -> httpx.Response:
    """The answer of the admin socket of the Envoy that runs in a folder."""
    transport = httpx.HTTPTransport(uds=str(folder / ADMIN_SOCKET))
    with httpx.Client(transport=transport, base_url="http://admin", timeout=5) as client:
        return client.get(path)


def hosts(folder: Path) -> set[Endpoint]:
    """The gateways that the Envoy in a folder knows."""
    [cluster] = admin(folder, "/clusters?format=json").json()["cluster_statuses"]
    sockets = [host["address"]["socket_address"] for host in cluster.get("host_statuses", [])]
    return {Endpoint(address=s["address"], port=s["port_value"]) for s in sockets}


@dataclass
class BalancerUnderTest:
    """Makes a balancer's file, starts its keeper, asks through it."""

    home: Path
    stack_id: str = field(default_factory=lambda: secrets.token_hex(4))
    stack: str = "test"
    address: str = ""  # "": the stack's own
    port: int = PORT
    gateways: int = 9  # more than there ever are: they are looked for every second

    def __post_init__(self) -> None:
        self.address = self.address or balancer_address(self.stack_id)
        self.control_url = file_url(self.home / "control")
        self.control: Store = open_store(self.control_url)
        self._made = 0

    @property
    def file(self) -> BalancerFile:
        """As the provider makes it."""
        return BalancerFile(
            stack=self.stack,
            stack_id=self.stack_id,
            home=str(self.home),
            control_url=self.control_url,
            address=self.address,
            port=self.port,
            gateways=self.gateways,
            python=sys.executable,
        )

    def start(self, cancelled: threading.Event | None = None) -> None:
        """As the provider does, for a new balancer or a changed one."""
        start_balancer(self.file, cancelled or threading.Event())

    def stop(self) -> None:
        """As the provider does."""
        stop_balancer(self.stack_id)

    @contextmanager
    def gateway(self) -> Iterator[Gateway]:
        """A gateway with an address of its own that listens; it is not known yet."""
        self._made += 1
        address = node_address(self.stack_id, "gateway", self._made)
        gateway = Gateway(f"gateway-{self._made}", address)
        try:
            yield gateway
        finally:
            self.forget(gateway)
            gateway.close()

    def tell(self, gateway: Gateway, **changes: object) -> None:
        """Write its presence."""
        presence = gateway.presence(**changes)
        self.control.put(f"nodes/{gateway.node}", presence.model_dump_json().encode())

    def forget(self, gateway: Gateway) -> None:
        """Remove its presence."""
        self.control.delete(f"nodes/{gateway.node}")

    def ask(self, path: str = "/", body: bytes | None = None) -> tuple[int, str]:
        """The status of an answer and who gave it; status 0 without one."""
        connection = HTTPConnection(self.address, self.port, timeout=30)
        try:
            connection.request("GET" if body is None else "POST", path, body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, HTTPException) as fault:
            return 0, str(fault)
        finally:
            connection.close()

    def answers(self, count: int = 20) -> Counter[str]:
        """How many of so many requests each gateway has answered; fails if one went wrong."""
        said = [self.ask() for _ in range(count)]
        assert {status for status, _ in said} == {200}, said
        return Counter(text.split()[0] for _, text in said)

    def answering(self) -> set[str]:
        """Which gateways answer now; none while requests go wrong."""
        said = [self.ask() for _ in range(10)]
        return {text.split()[0] for status, text in said if status == 200}

    def hosts(self) -> set[str]:
        """The addresses of the gateways that Envoy knows."""
        return {host.address for host in hosts(self.file.folder)}

    def processes(self) -> list[ProcessId]:
        """Keeper and Envoy, as many as there are."""
        return marked(mark(self.stack_id, "balancer"))

    def keeper(self) -> ProcessId:
        """The keeper's process."""
        return only(mark(self.stack_id, "balancer", "keeper"))

    def envoy(self) -> ProcessId:
        """Envoy's process."""
        return only(mark(self.stack_id, "balancer", "envoy"))
