"""AWS as moto emulates it, on this machine alone; and what answers instead of it in one call."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3  # type: ignore[import-untyped]
import httpx
import pytest
from botocore.loaders import create_loader  # type: ignore[import-untyped]
from botocore.session import get_session  # type: ignore[import-untyped]

from tests.infra.clouds.aws.interceptor import Interceptor, PlacementGroups
from tests.infra.clouds.aws.planted import OURS, Stack
from tests.infra.clouds.aws.standing import Standing

START_S = 60.0
RUNNING = "Running on http://"
ADDRESS = "127.0.0.1"
MODELS = create_loader()  # of the services, read once


@pytest.fixture(scope="session")
def moto_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own process, at a port that it has chosen."""
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("w") as said:
        argv = [sys.executable, "-u", "-m", "moto.server", "-H", ADDRESS, "-p", "0"]
        server = subprocess.Popen(argv, stdout=said, stderr=said)
    try:
        yield f"http://{ADDRESS}:{_port(server, log)}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def aws(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> boto3.Session:
    """An empty account of AWS."""
    point_at(moto_url, monkeypatch)
    httpx.post(f"{moto_url}/moto-api/reset", trust_env=False).raise_for_status()
    return new_session()


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks AWS asks there, and can ask no address off this machine."""
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "AKIAOFTESTSALONE",
        "AWS_SECRET_ACCESS_KEY": "a secret of tests alone",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "NO_PROXY": ADDRESS,
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def new_session() -> boto3.Session:
    """One that need not read the models again."""
    core = get_session()
    core.register_component("data_loader", MODELS)
    return boto3.Session(botocore_session=core)


@pytest.fixture
def interceptor(aws: boto3.Session) -> Interceptor:
    """Answers some calls of the session itself."""
    return Interceptor(aws)


@pytest.fixture
def groups(interceptor: Interceptor) -> PlacementGroups:
    """Without these moto answers a sweep that it has a fault."""
    return PlacementGroups(interceptor)


@pytest.fixture
def stack(aws: boto3.Session, groups: PlacementGroups) -> Stack:
    """A stack of which nothing is there yet."""
    return Stack(session=aws, id=OURS, groups=groups)


@pytest.fixture
def standing(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standing:
    """A stack that stands, with its marker in a home of this test; commands ask our session."""
    monkeypatch.setenv("ATOLL_HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    for asker in ("view", "session"):
        monkeypatch.setattr(f"infra.clouds.aws.{asker}.open_session", lambda _: stack.session)
    made = Standing(stack=stack, home=tmp_path)
    made.make()
    return made


def _port(server: subprocess.Popen[bytes], log: Path) -> int:
    until = time.monotonic() + START_S
    while time.monotonic() < until and server.poll() is None:
        if RUNNING in log.read_text():
            return int(log.read_text().partition(RUNNING)[2].partition(":")[2].split()[0])
        time.sleep(0.05)
    raise AssertionError(f"moto did not start: {log.read_text()}")
