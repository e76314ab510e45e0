"""`pulumi-resource-atoll ENGINE_ADDRESS`: started by the engine, ends with it.

Prints its port as the first line, serves until told to stop or until its parent is gone: an engine
killed with -9 must not leave a provider that goes on creating.
"""

import logging
import os
import select
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import grpc
from pulumi.runtime.proto.engine_pb2_grpc import EngineStub
from pulumi.runtime.proto.provider_pb2_grpc import add_ResourceProviderServicer_to_server

from infra.provider.api_key import ApiKeyKind
from infra.provider.balancer import BalancerKind
from infra.provider.guard import GuardKind
from infra.provider.kind import Kind
from infra.provider.pool import PoolKind
from infra.provider.proof import ProofKind
from infra.provider.server import Provider
from infra.provider.store import StoreKind
from runtime.signals import stop_event

THREADS = 32  # creates that wait block a thread each; more wait in line
MESSAGE_BYTES_MAX = 400 << 20  # the engine's own limit
EXIT_ORPHANED = 3
STOP_S = 2.0  # the engine kills a plugin 5 s after SIGINT

# Any: each kind has inputs of its own.
KINDS: list[Kind[Any]] = [
    StoreKind(),
    PoolKind(),
    BalancerKind(),
    ApiKeyKind(),
    GuardKind(),
    ProofKind(),
]


def main() -> int:
    """Serve one engine."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    addresses = [a for a in sys.argv[1:] if not a.startswith("-")]
    if not addresses:
        print("pulumi-resource-atoll is started by pulumi, with the engine's address")
        return 2
    options = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)]
    server = grpc.server(ThreadPoolExecutor(THREADS), options=options)
    engine = EngineStub(grpc.insecure_channel(addresses[-1], options=options))
    add_ResourceProviderServicer_to_server(Provider(version("atoll"), KINDS, engine), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    stop = stop_event()
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    print(port, flush=True)
    stop.wait()
    server.stop(STOP_S).wait()
    return 0


def _end_with_parent(parent: int) -> None:
    try:
        handle = os.pidfd_open(parent)
    except ProcessLookupError:
        os._exit(EXIT_ORPHANED)
    if os.getppid() == parent:  # else it died before the handle was open
        select.select([handle], [], [])
    os._exit(EXIT_ORPHANED)


if __name__ == "__main__":
    sys.exit(main())
