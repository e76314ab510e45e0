"""Keeper of a pool on one machine: what a scale set is on a cloud.

`python -P -m infra.provider.keeper POOL_FOLDER`. One per pool: it holds a lock in the folder and
the name of its socket. It may be killed at any time: nodes go on, the next keeper finds them.

Exit status 0: stopped on purpose; 75: another keeper holds the pool; 78: there is no pool file.
"""

import asyncio
import fcntl
import logging
import os
import secrets
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from infra.checkout import replace_file
from infra.clouds.local.processes import (
    ProcessId,
    end,
    end_marked,
    identify,
    is_alive,
    marked,
    open_handle,
    reap,
    spawn_daemon,
    wait,
)
from infra.provider.keeping.control import Control, take_name
from infra.provider.keeping.environment import KEEPER, mark
from infra.provider.keeping.pool import HeldPool
from infra.provider.keeping.pool_file import PoolFile, pool_folder, read_pool_file
from infra.provider.keeping.timer import BUSY_LOOK_S, Timer
from runtime.clouds.local import LocalPool
from runtime.errors import AtollError, Refused, Unavailable
from runtime.limits import CHILD_STOP_S
from runtime.objects import open_store

__all__ = ["PoolFile", "keeper_alive", "start_keeper", "stop_keeper"]

EXIT_TAKEN = 75
EXIT_NO_FILE = 78
START_S = 30.0  # from its start to its first answer, on a loaded machine
ANSWER_POLL_S = 0.05  # it is asked this often meanwhile
STOP_S_MIN = 15.0  # for nodes of a pool whose file can't be read

log = logging.getLogger("keeper")


def start_keeper(file: PoolFile) -> None:
    """Have this pool kept as the file says: by a new keeper, or by the one that lives.

    Returns when it answers; raises Unavailable if it does not.
    """
    file.write()
    if keeper_alive(Path(file.home), file.stack_id, file.pool):
        with suppress(Unavailable, Refused):  # it may be on its way out
            LocalPool(file.stack_id, file.pool).reload()
            return
        _end_keeper(file.folder, file.stop_s)
    token = mark(file.stack_id, file.pool, KEEPER) + secrets.token_hex(8)
    process = spawn_daemon(
        [file.python, "-P", "-m", "infra.provider.keeper", str(file.folder)],
        file.environment(os.environ, token),
        file.folder,
        file.folder / "keeper.log",
    )
    _wait_for_answer(file, process)


def keeper_alive(home: Path, stack_id: str, pool: str) -> bool:
    """Whether a pool is kept."""
    process = _read_id(pool_folder(home, stack_id, pool))
    return process is not None and is_alive(process)


def stop_keeper(home: Path, stack_id: str, pool: str) -> None:
    """Let the nodes of a pool finish and leave, then its keeper; no error if there are none.

    Needs neither the keeper nor its files: nodes that a dead keeper left are asked one by one.
    """
    folder = pool_folder(home, stack_id, pool)
    try:
        stop_s = read_pool_file(folder).stop_s
    except (OSError, ValueError):
        stop_s = STOP_S_MIN
    with suppress(Unavailable, Refused):
        LocalPool(stack_id, pool).stop()
    for keeper in marked(mark(stack_id, pool, KEEPER)):
        _wait_for_end(keeper, stop_s + CHILD_STOP_S)
        end(keeper, 0.0)
    left = marked(mark(stack_id, pool))
    if left:
        with ThreadPoolExecutor(len(left)) as threads:
            list(threads.map(lambda process: end(process, stop_s), left))
    end_marked(mark(stack_id, pool))


def main() -> int:
    """Keep the pool whose folder is named on the command line."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    folder = Path(sys.argv[1]).absolute()
    try:
        file = read_pool_file(folder)
    except (OSError, ValueError) as fault:
        log.error("%s: %s", folder, fault)
        return EXIT_NO_FILE
    with (folder / "keeper.lock").open("a") as lock:
        if not _take(lock):
            log.info("another keeper holds the lock of %s", folder)
            return EXIT_TAKEN
        return asyncio.run(_keep(file))


async def _keep(file: PoolFile) -> int:
    bound = take_name(file.stack_id, file.pool)
    if bound is None:
        log.info("another keeper holds the socket of pool %s", file.pool)
        return EXIT_TAKEN
    me = identify(os.getpid())
    assert me is not None
    replace_file(file.folder / "keeper.json", me.model_dump_json())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    pool = HeldPool(file, open_store(file.template.stores.control), os.environ)
    pool.start()
    server = await Control(pool, stop).serve(bound)
    timer = asyncio.create_task(_keep_time(pool)) if file.role == "training" else None
    log.info("pool %s: kept by pid %d, size %d", file.pool, me.pid, pool.target)
    await stop.wait()
    if timer is not None:
        timer.cancel()
    await pool.stop()
    server.close()
    with suppress(OSError):  # the folder may be gone by now
        (file.folder / "keeper.json").unlink()
    log.info("pool %s: stopped", file.pool)
    return 0


async def _keep_time(pool: HeldPool) -> None:
    control = open_store(pool.file.template.stores.control)
    timer = Timer(pool.file, control, f"keeper-{os.getpid()}", time.monotonic)
    while True:
        timer.file = pool.file
        target = pool.target
        try:
            size = await asyncio.to_thread(timer.look, target)
            # Somebody else may have set another size while this one looked: theirs is newer.
            if size is not None and pool.target == target:
                log.info("size %d", size)
                pool.set_size(size)
            pause_s = timer.pause_s(pool.target, datetime.now(UTC))
        except AtollError as fault:
            log.warning("no look at the pool's log: %s", fault)
            pause_s = BUSY_LOOK_S
        except Exception:  # a fault of ours must not end the timer
            log.exception("no look at the pool's log")
            pause_s = BUSY_LOOK_S
        await asyncio.sleep(pause_s)


def _take(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for_answer(file: PoolFile, process: ProcessId) -> None:
    deadline = time.monotonic() + START_S
    handle = open_handle(process)
    try:
        while time.monotonic() < deadline:
            has_ended = handle is None or wait(handle, ANSWER_POLL_S)
            with suppress(Unavailable):
                LocalPool(file.stack_id, file.pool).describe()
                return
            # One that found another keeper leaves the answer to that one, which may be starting.
            if has_ended and reap(process.pid) not in {None, EXIT_TAKEN}:
                break
            if has_ended:
                time.sleep(ANSWER_POLL_S)
    finally:
        if handle is not None:
            os.close(handle)
    raise Unavailable(f"pool {file.pool}: its keeper did not start; see {file.folder}/keeper.log")


def _end_keeper(folder: Path, stop_s: float) -> None:
    """Wait for a keeper that is on its way out; kill one that hangs, but none of its nodes."""
    process = _read_id(folder)
    if process is not None:
        _wait_for_end(process, stop_s + CHILD_STOP_S)
        end(process, 0.0)


def _wait_for_end(process: ProcessId, timeout_s: float) -> None:
    handle = open_handle(process)
    if handle is not None:
        wait(handle, timeout_s)
        os.close(handle)


def _read_id(folder: Path) -> ProcessId | None:
    try:
        return ProcessId.model_validate_json((folder / "keeper.json").read_bytes())
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    sys.exit(main())
