"""The provider as the engine meets it: a process, a port line, gRPC, an end with its parent."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc
from pulumi.runtime.proto import provider_pb2 as pb
from pulumi.runtime.proto.provider_pb2_grpc import ResourceProviderStub

from infra.provider.wire import UNKNOWN, Properties, read, write

START_S = 20.0


class Engine(engine_pb2_grpc.EngineServicer):
    """Keeps what the provider logs."""

    def __init__(self) -> None:
        self.logged: list[engine_pb2.LogRequest] = []

    def Log(  # noqa: N802
        self, request: engine_pb2.LogRequest, context: grpc.ServicerContext
    ) -> empty_pb2.Empty:
        self.logged.append(request)
        return empty_pb2.Empty()


@dataclass(frozen=True)
class Running:
    """A provider process and the two ends of its conversation."""

    process: subprocess.Popen[str]
    call: ResourceProviderStub
    engine: Engine


@pytest.fixture
def provider() -> Iterator[Running]:
    engine = Engine()
    server = grpc.server(ThreadPoolExecutor(2))
    engine_pb2_grpc.add_EngineServicer_to_server(engine, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.provider.main", f"127.0.0.1:{port}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    provider_port = int(process.stdout.readline())
    with grpc.insecure_channel(f"127.0.0.1:{provider_port}") as channel:
        yield Running(process, ResourceProviderStub(channel), engine)
    process.terminate()
    process.wait(START_S)
    server.stop(0)


def urn(token: str, name: str = "x") -> str:
    return f"urn:pulumi:local::atoll::{token}::{name}"


def proof_inputs(home: Path) -> Properties:
    return {"home": str(home), "project": "atoll", "stack": "local", "pools": ["training"]}


def test_an_unknown_property_and_a_wrong_type_are_check_failures(
    provider: Running, tmp_path: Path
) -> None:
    news = proof_inputs(tmp_path) | {"nott": 1, "stack": [1]}

    reply = provider.call.Check(pb.CheckRequest(urn=urn("atoll:index:Proof"), news=write(news)))

    assert {failure.property for failure in reply.failures} == {"nott", "stack"}


def test_values_not_known_yet_pass_the_check(provider: Running, tmp_path: Path) -> None:
    news = proof_inputs(tmp_path) | {"home": UNKNOWN}

    reply = provider.call.Check(pb.CheckRequest(urn=urn("atoll:index:Proof"), news=write(news)))

    assert not reply.failures
    assert read(reply.inputs) == news


def test_a_preview_makes_nothing_and_leaves_outputs_unknown(
    provider: Running, tmp_path: Path
) -> None:
    inputs = write(proof_inputs(tmp_path))

    reply = provider.call.Create(
        pb.CreateRequest(urn=urn("atoll:index:Proof"), properties=inputs, preview=True)
    )

    assert read(reply.properties)["stack_id"] == UNKNOWN
    assert list(tmp_path.iterdir()) == []


def test_the_api_key_is_secret_on_the_wire_and_its_digest_is_not(provider: Running) -> None:
    reply = provider.call.Create(
        pb.CreateRequest(urn=urn("atoll:index:ApiKey"), properties=write({"stack_id": "00000000"}))
    )

    assert "value" in reply.properties["key"]
    assert str(read(reply.properties)["key"]).startswith("sk-atoll-")
    assert isinstance(reply.properties["sha256"], str)


def test_a_changed_count_is_an_update_and_a_changed_role_a_replacement(provider: Running) -> None:
    old: Properties = {"size": 2, "role": "replica"}
    request = pb.DiffRequest(
        urn=urn("atoll:index:Pool"),
        old_inputs=write(old),
        olds=write(old),
        news=write({"size": 3, "role": "gateway"}),
    )

    reply = provider.call.Diff(request)

    assert sorted(reply.diffs) == ["role", "size"]
    assert list(reply.replaces) == ["role"]
    assert reply.detailedDiff["size"].kind == pb.PropertyDiff.UPDATE


def test_an_error_is_one_plain_sentence(provider: Running, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    inputs = {"home": str(tmp_path / "file"), "stack": "s", "stack_id": "0", "role": "data"}

    with pytest.raises(grpc.RpcError) as caught:
        provider.call.Create(
            pb.CreateRequest(urn=urn("atoll:index:Store"), properties=write(inputs))
        )

    details = caught.value.details() or ""
    assert details.startswith("store data: found Not a directory")
    assert "Traceback" not in details


def test_cancel_and_sigint_are_harmless_at_a_normal_end(provider: Running) -> None:
    provider.call.Cancel(empty_pb2.Empty())
    provider.process.send_signal(signal.SIGINT)

    assert provider.process.wait(START_S) == 0


def test_the_provider_ends_when_its_parent_is_killed() -> None:
    script = (
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-m', 'infra.provider.main', '127.0.0.1:1'],"
        " stdout=subprocess.PIPE, text=True)\n"
        "p.stdout.readline()\n"
        "print(p.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    handle = os.pidfd_open(int(parent.stdout.readline()))

    parent.kill()
    parent.wait()

    assert select.select([handle], [], [], START_S)[0], "the orphan still runs"
    os.close(handle)
