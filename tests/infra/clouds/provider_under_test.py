"""The strict double of a provider in this process, and what an engine asks of it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from pulumi.runtime.proto import provider_pb2 as pb
from pulumi.runtime.proto.provider_pb2_grpc import (
    ResourceProviderStub,
    add_ResourceProviderServicer_to_server,
)

from infra.provider.wire import Properties, Value, read, write
from tests.doubles.strict_cloud import StrictCloud
from tests.doubles.strict_provider import StrictProvider


@contextmanager
def served(package: str, cloud: StrictCloud) -> Iterator[ResourceProviderStub]:
    """A provider in this process, configured."""
    server = grpc.server(ThreadPoolExecutor(2))
    add_ResourceProviderServicer_to_server(StrictProvider(package, cloud, engine=0), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        provider = ResourceProviderStub(channel)
        config = write({"region": "eu-central-1", "defaultTags": '{"tags":{"stack":"strict"}}'})
        provider.Configure(pb.ConfigureRequest(args=config))
        yield provider
    server.stop(0)


def urn(token: str, name: str = "x") -> str:
    return f"urn:pulumi:s::strict::{token}::{name}"


def create(
    provider: ResourceProviderStub, token: str, /, **inputs: Value
) -> tuple[str, Properties]:
    request = pb.CreateRequest(urn=urn(token), properties=write(inputs))
    reply = provider.Create(request)
    return reply.id, read(reply.properties)


def delete(provider: ResourceProviderStub, token: str, resource_id: str) -> None:
    provider.Delete(pb.DeleteRequest(urn=urn(token), id=resource_id))
