"""Requests that end: in time, within bounds, and without going astray."""

import socket
import ssl
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pytest

from runtime.clouds.wire import Request, send
from runtime.errors import Unavailable
from runtime.limits import ANSWER_BYTES_MAX

Talk = Callable[[socket.socket], None]


class Serve(Protocol):
    """Makes a server that talks to each connection by a function; its URL."""

    def __call__(self, talk: Talk, *, is_read: bool = True) -> str: ...


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Makes servers, and ends them."""
    listeners: list[socket.socket] = []

    def start(talk: Talk, *, is_read: bool = True) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, suppress(OSError):
                        if is_read:
                            connection.recv(1 << 16)
                        talk(connection)

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/a?b=c"

    yield start
    for listener in listeners:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def drip(head: bytes) -> Talk:
    """Send a head, then a byte at a time, for ever."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)  # a slow server is what this is about

    return talk


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX-Long: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_a_server_that_drips_is_given_up_in_time(serve: Serve, head: bytes) -> None:
    begin = time.monotonic()

    with pytest.raises(Unavailable):
        send(Request(method="GET", url=serve(drip(head))), within_s=0.4)

    assert time.monotonic() - begin < 5.0


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (ANSWER_BYTES_MAX + 1),
    ],
)
def test_an_answer_that_is_none_is_unavailable(serve: Serve, answer: bytes) -> None:
    with pytest.raises(Unavailable, match="GET http://127"):
        send(Request(method="GET", url=serve(lambda c: c.sendall(answer))), within_s=5.0)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of 127.0.0.1, signed by itself; the key is in the same file."""
    file = tmp_path / "certificate.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1"
    words += " -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        ["openssl", *words.split(), "-out", str(file), "-keyout", str(tmp_path / "key.pem")],
        check=True,
        capture_output=True,
    )
    file.write_text(file.read_text() + (tmp_path / "key.pem").read_text())
    return file


def over_tls(certificate: Path, talk: Talk) -> Talk:
    """The same talk, with a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def wrapped(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1 << 16)
            talk(secured)

    return wrapped


def test_a_service_whose_certificate_nobody_vouches_for_is_not_talked_to(
    serve: Serve, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes] = []
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    def talk(connection: socket.socket) -> None:
        heard.append(good)
        connection.sendall(good)

    url = serve(over_tls(certificate, talk), is_read=False).replace("http:", "https:")
    with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        send(Request(method="GET", url=url), within_s=5.0)
    assert heard == []

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert send(Request(method="GET", url=url), within_s=5.0).body == b"ok"


def test_a_service_that_drips_over_tls_is_given_up_in_time(
    serve: Serve, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    url = serve(over_tls(certificate, drip(b"HTTP/1.1 200 OK\r\nX-Long: ")), is_read=False)
    begin = time.monotonic()

    with pytest.raises(Unavailable):
        send(Request(method="GET", url=url.replace("http:", "https:")), within_s=0.5)

    assert time.monotonic() - begin < 5.0


def test_a_redirect_is_not_followed_and_the_environments_proxy_not_asked(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    url = serve(lambda c: c.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n"))

    reply = send(Request(method="GET", url=url), within_s=5.0)

    assert reply.status == 302
    assert not reply.is_good


@pytest.mark.parametrize("token", ["secret\nX-Evil: 1", "secret\N{SNOWMAN}"])
def test_a_token_that_can_not_be_sent_is_not_shown(serve: Serve, token: str) -> None:
    request = Request(method="GET", url=serve(lambda _: None), headers={"authorization": token})

    with pytest.raises(Unavailable) as fault:
        send(request, within_s=5.0)

    assert "secret" not in "".join(traceback.format_exception(fault.value))


def test_a_fault_does_not_show_the_query(serve: Serve) -> None:
    with pytest.raises(Unavailable) as fault:
        send(Request(method="GET", url=serve(lambda _: None)), within_s=5.0)

    assert "b=c" not in str(fault.value)
