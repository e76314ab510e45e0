"""The AWS that a rehearsed machine sees, at its real addresses and names, inside its namespace.

`python -m tests.doubles.rehearsal_sky FILE`. Metadata and Auto Scaling are the double that the
runtime's own client is tested on; S3 is a SeaweedFS outside, reached through its Unix socket.
"""

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from botocore.credentials import Credentials  # type: ignore[import-untyped]

from tests.doubles.aws_cloud import PLACE, FakeAws
from tests.doubles.cloud_server import Answered, Asked

METADATA, S3, AUTOSCALING = "169.254.169.254", "169.254.0.3", "169.254.0.4"
BLOCK_BYTES = 1 << 16
TICK_S = 0.5

Open = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Sky(NamedTuple):
    """What the file holds."""

    folder: str  # where is noted what the machine has asked for
    instance: str
    address: str
    keys: tuple[str, str, str]  # of the machine's role
    socket: str  # of S3
    certificate: str
    has_metadata: bool = True
    has_group: bool = True


class MachineAws(FakeAws):
    """Gives out real keys, and says which machine asks."""

    def __init__(self, sky: Sky) -> None:
        super().__init__()
        self._sky = sky
        self.members = {sky.instance} if sky.has_group else set()

    def _keys(self, behind: int = 0) -> Credentials:
        return Credentials(*self._sky.keys)

    def _items(self) -> dict[str, object]:
        return {
            **super()._items(),
            "meta-data/instance-id": self._sky.instance,
            "meta-data/local-ipv4": self._sky.address,
        }

    def _service(self, asked: Asked) -> Answered:
        answered = super()._service(asked)
        with Path(self._sky.folder, "orders").open("a") as orders:
            orders.write(json.dumps([answered.status, asked.body.decode()]) + "\n")
        return answered


async def main(sky: Sky) -> None:
    """Serve until killed."""
    for address in (METADATA, S3, AUTOSCALING):
        add = ["ip", "address", "add", f"{address}/32", "dev", "lo"]
        subprocess.run(add, check=True)
    aws = MachineAws(sky)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(sky.certificate)
    s3 = partial(asyncio.open_unix_connection, sky.socket)
    await asyncio.start_server(partial(pipe, s3), S3, 443, ssl=tls)
    await asyncio.start_server(partial(pipe, to(aws.services.url)), AUTOSCALING, 443, ssl=tls)
    if sky.has_metadata:
        await asyncio.start_server(partial(pipe, to(aws.metadata.url)), METADATA, 80)
    Path(sky.folder, "sky").touch()
    while True:
        aws.clock.at = datetime.now(UTC)
        await asyncio.sleep(TICK_S)


def host(service: str) -> str:
    """The name of one of its services."""
    return f"{service}.{PLACE.region}.amazonaws.com"


def to(url: str) -> Open:
    """A connection to a server on this machine."""
    host, _, port = url.removeprefix("http://").partition(":")
    return partial(asyncio.open_connection, host, int(port))


async def pipe(there: Open, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Both ways, byte by byte, until both ends have closed."""
    try:
        answers, asks = await there()
        await asyncio.gather(copy(reader, asks), copy(answers, writer))
    except OSError:
        writer.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One way."""
    try:
        while block := await reader.read(BLOCK_BYTES):
            writer.write(block)
            await writer.drain()
    finally:
        writer.close()


if __name__ == "__main__":
    told = json.loads(Path(sys.argv[1]).read_bytes())
    asyncio.run(main(Sky(**told)))
