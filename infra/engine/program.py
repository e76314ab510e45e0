"""Runs one Pulumi program for the language host: `python program.py --monitor=… -- PROGRAM`.

By path and with -P, so that neither this folder nor its parents are on the program's sys.path: a
folder as PROGRAM puts itself there, as with Pulumi's own host. Imports nothing of the kit. Exit
status 32 tells that the error has been shown, so that the engine adds no line of its own.
"""

import argparse
import asyncio
import ctypes
import logging
import os
import runpy
import signal
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor

import pulumi
from pulumi.runtime import Settings, configure, run_in_stack
from pulumi.runtime.config import get_config_env, get_config_secret_keys_env, set_all_config

EXIT_SHOWN = 32
THREADS_PER_OPERATION = 4
PR_SET_PDEATHSIG = 1  # linux/prctl.h

OPTIONS = (
    *("monitor", "engine", "project", "stack", "organization"),
    *("root_directory", "pwd", "parallel", "dry_run"),
)


def main() -> int:
    """Run the program as the stack that the arguments describe."""
    if sys.platform == "linux":
        # The thread that started us waits for our end, so this fires when the host dies.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    arguments = _arguments()
    parallel = max(int(arguments.parallel), 1)
    set_all_config(get_config_env(), get_config_secret_keys_env())
    configure(
        Settings(
            monitor=arguments.monitor,
            engine=arguments.engine,
            project=arguments.project,
            stack=arguments.stack,
            organization=arguments.organization,
            root_directory=arguments.root_directory,
            parallel=parallel,
            dry_run=arguments.dry_run == "true",
        )
    )
    os.chdir(arguments.pwd)
    sys.argv = [arguments.program, *arguments.arguments]
    status = _run(arguments.program, parallel)
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in OPTIONS:
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("program")
    parser.add_argument("arguments", nargs="*")
    return parser.parse_args()


def _run(program: str, parallel: int) -> int:
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it repeats what is shown anyway
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_default_executor(ThreadPoolExecutor(parallel * THREADS_PER_OPERATION))

    def body() -> None:
        runpy.run_path(program, run_name="__main__")

    try:
        loop.run_until_complete(run_in_stack(body))
    except pulumi.RunError as fault:
        pulumi.log.error(str(fault))
        return EXIT_SHOWN
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except Exception:
        pulumi.log.error(f"Program failed with an unhandled exception:\n{traceback.format_exc()}")
        return EXIT_SHOWN
    return 0


if __name__ == "__main__":
    sys.exit(main())
