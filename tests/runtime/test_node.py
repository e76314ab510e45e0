"""A node from its file to its exit status: what is logged as its last word, and what leaves it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from runtime import node
from runtime.coordination.log import LAST_WORDS, Presence
from runtime.errors import AtollError, Conflict, Corrupt, Missing, Refused, Unavailable
from runtime.node import EXIT_FAULT, EXIT_REFUSED
from runtime.node_spec import GatewaySpec, NodeSpec, StoreUrls
from runtime.objects import file_url, open_store
from runtime.role import Node

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 30.0
ROLE_MODULE = "role_under_test"

Role = Callable[[Node], None]
Play = Callable[[Role], None]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Puts a function in the place of the gateway's role."""

    def put(role: Role) -> None:
        module = ModuleType(ROLE_MODULE)
        module.run = role  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, ROLE_MODULE, module)
        monkeypatch.setitem(node.ROLES, "gateway", ROLE_MODULE)

    return put


def node_spec(folder: Path, address: str = "127.0.0.1", **changes: object) -> NodeSpec:
    """Of a gateway with folder stores."""
    gateway = GatewaySpec(replicas=1, api_key_sha256=(), max_tokens=16, drain_s=5, port=8080)
    spec = NodeSpec(
        stack="test",
        stack_id="0" * 8,
        cloud="local",
        pool="gateway",
        node="gateway-0",
        address=address,
        bundle_sha256="0" * 64,
        stores=StoreUrls(**{role: file_url(folder / role) for role in StoreUrls.model_fields}),
        gateway=gateway,
    )
    return spec.model_copy(update=changes)


def told(spec: NodeSpec) -> Presence:
    """What the node says of itself."""
    return Presence.model_validate_json(open_store(spec.stores.control).get(f"nodes/{spec.node}"))


def play_out(spec: NodeSpec, folder: Path) -> int:
    return node.run(spec, folder, threading.Event())


def test_a_role_that_is_done_leaves_with_zero(tmp_path: Path, play: Play) -> None:
    play(lambda _: None)
    spec = node_spec(tmp_path)

    status = play_out(spec, tmp_path)

    assert status == 0
    assert (told(spec).state, told(spec).why) == ("stopped", "")


@pytest.mark.parametrize(
    ("fault", "status", "state"),
    [
        (Refused, EXIT_REFUSED, "refused"),
        (Corrupt, EXIT_REFUSED, "refused"),
        (Unavailable, EXIT_FAULT, "failed"),
        (Conflict, EXIT_FAULT, "failed"),
        (Missing, EXIT_FAULT, "failed"),
    ],
)
def test_a_fault_decides_the_status_and_is_the_last_word(
    tmp_path: Path, play: Play, fault: type[AtollError], status: int, state: str
) -> None:
    def fail(me: Node) -> None:
        me.heart.say(state="warming")
        raise fault("found 3; allowed 4")

    play(fail)
    spec = node_spec(tmp_path)

    assert play_out(spec, tmp_path) == status

    assert (told(spec).state, told(spec).why) == (state, "found 3; allowed 4")
    assert told(spec).state in LAST_WORDS


def test_a_fault_of_ours_is_not_dressed_up(tmp_path: Path, play: Play) -> None:
    def fail(_: Node) -> None:
        raise ZeroDivisionError

    play(fail)
    spec = node_spec(tmp_path)

    with pytest.raises(ZeroDivisionError):
        play_out(spec, tmp_path)

    assert told(spec).state not in LAST_WORDS
    assert "heart" not in {thread.name for thread in threading.enumerate()}


def test_a_role_begins_when_the_node_can_be_seen_and_is_handed_what_is_its(
    tmp_path: Path, play: Play
) -> None:
    seen: list[tuple[Node, Presence]] = []
    play(lambda me: seen.append((me, told(me.spec))))
    spec = node_spec(tmp_path)

    play_out(spec, tmp_path / "own")
    play_out(spec, tmp_path / "own")

    (me, first), (_, second) = seen
    assert (me.spec, me.folder, me.control.url) == (spec, tmp_path / "own", spec.stores.control)
    assert (first.node, first.pool, first.role, first.address) == (
        "gateway-0", "gateway", "gateway", "127.0.0.1",
    )  # fmt: skip
    assert (first.state, first.pid) == ("starting", os.getpid())
    assert first.boot_id != second.boot_id


def run_main(monkeypatch: pytest.MonkeyPatch, path: Path) -> int:
    """The program, its signals aside."""
    monkeypatch.setattr(sys, "argv", ["node", str(path)])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return node.main()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "",
        lambda text: text.replace('"node":', '"nodes":'),
        lambda text: text.replace('"local"', '"moon"'),
        lambda text: text.replace('"port":8080', '"port":0'),
    ],
    ids=["half", "empty", "unknown key", "unknown cloud", "port out of range"],
)
def test_a_node_file_that_makes_no_sense_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[str], str]
) -> None:
    path = tmp_path / "node.json"
    path.write_text(change(node_spec(tmp_path).model_dump_json()))

    assert run_main(monkeypatch, path) == EXIT_REFUSED

    assert not (tmp_path / "control").exists()


def test_a_node_file_that_names_a_store_of_an_unknown_kind_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = node_spec(tmp_path).stores.model_copy(update={"control": "ftp://control"})
    path = tmp_path / "node.json"
    path.write_text(node_spec(tmp_path, stores=stores).model_dump_json())

    assert run_main(monkeypatch, path) == EXIT_REFUSED


def test_a_store_that_can_not_be_opened_now_is_a_fault_to_start_again_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "control").write_text("a file")
    path = tmp_path / "node.json"
    path.write_text(node_spec(tmp_path).model_dump_json())

    assert run_main(monkeypatch, path) == EXIT_FAULT


def test_a_node_file_without_any_role_is_refused_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = node_spec(tmp_path, gateway=None)
    path = tmp_path / "node.json"
    path.write_text(spec.model_dump_json())

    assert run_main(monkeypatch, path) == EXIT_REFUSED

    assert told(spec).state == "refused"
    assert "gateway" in told(spec).why


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_is_told_to_leave_leaves_politely(
    tmp_path: Path, number: signal.Signals, seed: int
) -> None:
    spec = node_spec(tmp_path, address=f"127.252.{seed % 254 + 1}.{seed // 254 % 254 + 1}")
    path = tmp_path / "node.json"
    path.write_text(spec.model_dump_json())
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "runtime.node", str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        wait_for_state(spec, "warming")  # and stays so: there are no replicas

        process.send_signal(number)

        assert process.wait(WAIT_S) == 0
        assert told(spec).state == "stopped"
    finally:
        process.kill()
        process.wait()


def wait_for_state(spec: NodeSpec, state: str) -> None:
    """Until the node says so."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            found = told(spec).state
        except Missing:
            found = "nothing"
        if found == state:
            return
        assert time.monotonic() < deadline, f"not within {WAIT_S:.0f} s: {state}; found {found}"
        time.sleep(0.02)
