"""Keeper of the balancer on one machine: holds Envoy and tells it where the gateways are.

`python -P -m infra.provider.balancer_keeper FOLDER`. It may be killed at any time: Envoy goes on
with the gateways it knows, the next keeper finds it.

Exit status 0: stopped on purpose; 75: another keeper holds the balancer; 78: there is no file.
"""

import asyncio
import errno
import fcntl
import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from infra.checkout import replace_file
from infra.clouds.local.processes import (
    TOKEN,
    command,
    end,
    end_marked,
    environ,
    marked,
    spawn_daemon,
)
from infra.clouds.local.sockets import holders, listeners
from infra.plan.network import ANY
from infra.provider.keeping.balancer import (
    BALANCER,
    ENVOY,
    BalancerFile,
    HeldEnvoy,
    keep_endpoints,
    read_balancer_file,
    write_endpoints,
)
from infra.provider.keeping.environment import KEEPER, mark
from runtime.errors import Refused, Unavailable
from runtime.limits import CHILD_STOP_S
from runtime.objects import open_store

EXIT_TAKEN = 75
EXIT_NO_FILE = 78
LISTEN_S = 30.0  # for keeper and Envoy to be up, on a loaded machine
LISTEN_POLL_S = 0.05
COMMAND_CHARS = 80  # of a holder's command line, in a message
LOOPBACK = "127.0.0.1"
WILDCARDS = {ANY, "::"}

log = logging.getLogger("keeper")


def start_balancer(file: BalancerFile, cancelled: threading.Event) -> None:
    """Have Envoy listen as the file says; what runs already goes on if it fits.

    Raises Refused if the port can't be had, naming its holder; Unavailable if Envoy does not
    listen in time or the wait is cancelled.
    """
    keepers, envoys = (mark(file.stack_id, BALANCER, name) for name in (KEEPER, ENVOY))
    if not _is_kept_as(file):
        is_running = _runs_as(file)
        if not is_running:
            refuse_taken(file.address, file.port, envoys)  # first: refused, all stays as it is
        for keeper in marked(keepers):
            end(keeper, 0.0)  # its Envoy goes on
        if not is_running:
            end_marked(envoys)
        file.folder.mkdir(parents=True, exist_ok=True)
        if not file.endpoints.exists():
            write_endpoints(file, [])  # or Envoy would wait for the file
        replace_file(file.folder / "balancer.json", file.model_dump_json(indent=1))
        spawn_daemon(
            [file.python, "-P", "-m", "infra.provider.balancer_keeper", str(file.folder)],
            file.environment(os.environ, KEEPER),
            file.folder,
            file.folder / "keeper.log",
        )
    _wait_listening(file, cancelled)


def balancer_alive(stack_id: str) -> bool:
    """Whether the balancer is kept."""
    return bool(marked(mark(stack_id, BALANCER, KEEPER)))


def stop_balancer(stack_id: str) -> None:
    """End the keeper, then Envoy; no error if there is neither."""
    for keeper in marked(mark(stack_id, BALANCER, KEEPER)):
        end(keeper, CHILD_STOP_S)
    for envoy in marked(mark(stack_id, BALANCER, ENVOY)):
        end(envoy, CHILD_STOP_S)
    end_marked(mark(stack_id, BALANCER))


def refuse_taken(address: str, port: int, leaving: str | None = None) -> None:
    """Raise Refused, naming the holder, if nobody could listen there now.

    Processes whose token begins with `leaving` will have made room.
    """
    where = f"atoll:access: {address}:{port}"
    try:
        socket.create_server((address, port)).close()
    except PermissionError as fault:
        raise Refused(f"{where}: found {fault.strerror}; choose a port above 1023") from fault
    except OSError as fault:
        if fault.errno == errno.EADDRNOTAVAIL:
            raise Refused(f"{where}: this machine has no such address; choose another") from fault
        pids = _holders(address, port)
        staying = [pid for pid in pids if pid is None or not _is_marked(pid, leaving)]
        if staying or not pids:
            raise Refused(
                f"{where}: found it taken by {_described(staying)}; choose another "
                "atoll:access.port, or end that process"
            ) from fault


def main() -> int:
    """Keep the balancer whose folder is named on the command line."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    folder = Path(sys.argv[1]).absolute()
    try:
        file = read_balancer_file(folder)
    except (OSError, ValueError) as fault:
        log.error("%s: %s", folder, fault)
        return EXIT_NO_FILE
    with (folder / "keeper.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another keeper holds the lock of %s", folder)
            return EXIT_TAKEN
        return asyncio.run(_keep(file))


def _runs_as(file: BalancerFile) -> bool:
    """Whether an Envoy runs that was started with what the file asks for."""
    try:
        config = (file.folder / "envoy.json").read_text()
    except OSError:
        return False
    return config == file.envoy_config and bool(marked(mark(file.stack_id, BALANCER, ENVOY)))


def _is_kept_as(file: BalancerFile) -> bool:
    """Whether a keeper lives that goes by this file."""
    try:
        kept = read_balancer_file(file.folder)
    except (OSError, ValueError):
        return False
    return kept == file and balancer_alive(file.stack_id)


def _wait_listening(file: BalancerFile, cancelled: threading.Event) -> None:
    deadline = time.monotonic() + LISTEN_S
    address = LOOPBACK if file.address == ANY else file.address
    while balancer_alive(file.stack_id) and time.monotonic() < deadline:
        with suppress(OSError):
            socket.create_connection((address, file.port), LISTEN_POLL_S).close()
            if _runs_as(file):
                return
        if cancelled.wait(LISTEN_POLL_S):
            raise Unavailable("balancer: cancelled before Envoy listened")
    raise Unavailable(f"balancer: Envoy does not listen; see {file.folder}/*.log")


def _holders(address: str, port: int) -> list[int | None]:
    """Who listens there, for each socket; None for another user's process."""
    met = [found for found in listeners() if found.port == port and _meet(found.address, address)]
    held = holders({found.inode for found in met})
    return [held.get(found.inode) for found in met]


def _is_marked(pid: int, begin: str | None) -> bool:
    return begin is not None and environ(pid).get(TOKEN, "").startswith(begin)


def _described(pids: list[int | None]) -> str:
    """The first of them, as far as this user may know."""
    pid = next((pid for pid in pids if pid is not None), None)
    if pid is None:
        return "another user's process"
    stack = environ(pid).get("ATOLL_STACK")
    whose = f", stack {stack} of {environ(pid).get('ATOLL_HOME')}" if stack else ""
    return f"pid {pid}, {command(pid)[:COMMAND_CHARS]}{whose}"


def _meet(one: str, other: str) -> bool:
    return one == other or bool({one, other} & WILDCARDS)


async def _keep(file: BalancerFile) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks = [
        asyncio.create_task(keep_endpoints(file, open_store(file.control_url))),
        asyncio.create_task(HeldEnvoy(file, os.environ).hold()),
        asyncio.create_task(stop.wait()),
    ]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
