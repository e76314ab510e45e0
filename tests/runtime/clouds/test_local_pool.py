"""Client of a keeper, against a socket that answers what a test wants."""

import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from runtime.clouds import cloud_of
from runtime.clouds.local import LocalPool, socket_address
from runtime.errors import Refused, Unavailable
from runtime.node_spec import NodeSpec, StoreUrls


class Peer:
    """Listens under a keeper's name; answers each line with `answer`."""

    def __init__(self) -> None:
        self.stack_id = secrets.token_hex(4)
        self.answer = b'{"ok": true}\n'
        self.heard: list[bytes] = []
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(socket_address(self.stack_id, "training"))
        self.server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.server.accept()
                with connection, connection.makefile("rwb") as stream:
                    self.heard.append(stream.readline())
                    stream.write(self.answer)

    def close(self) -> None:
        """Let go of the name."""
        with suppress(OSError):
            self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


def node_spec(stack_id: str, cloud: str = "local") -> NodeSpec:
    """Of a node that only knows where it is."""
    urls = dict.fromkeys(StoreUrls.model_fields, "file:///nowhere")
    return NodeSpec.model_validate(
        {
            "stack": "test",
            "stack_id": stack_id,
            "cloud": cloud,
            "pool": "training",
            "bundle_sha256": "0" * 64,
            "stores": urls,
            "node": "training-0",
            "address": "127.9.9.10",
        }
    )


def test_a_node_reaches_its_own_pool(peer: Peer) -> None:
    cloud_of(node_spec(peer.stack_id)).set_size(0)

    assert peer.heard == [b'{"op":"size","size":0}\n']


def test_without_a_keeper_it_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="keeper"):
        LocalPool(secrets.token_hex(4), "training").describe()


def test_a_refusal_is_told_in_the_keepers_words(peer: Peer) -> None:
    peer.answer = b'{"error": "size: found 9; allowed 0 to 2"}\n'

    with pytest.raises(Refused, match="allowed 0 to 2"):
        LocalPool(peer.stack_id, "training").set_size(9)


@pytest.mark.parametrize("answer", [b"", b"\n", b"[]\n", b'{"pool": \n', b"\xff\n"])
def test_an_answer_that_is_none_is_unavailable(peer: Peer, answer: bytes) -> None:
    peer.answer = answer

    with pytest.raises(Unavailable):
        LocalPool(peer.stack_id, "training").reload()
    with pytest.raises(Unavailable):
        LocalPool(peer.stack_id, "training").describe()


def test_a_description_that_lacks_something_is_unavailable(peer: Peer) -> None:
    with pytest.raises(Unavailable):
        LocalPool(peer.stack_id, "training").describe()
