"""The engine's own process: `python -m runtime.serve.engine.process THREADS`.

Commands come in by standard input, events go out by standard output (protocol.py). It ends when
its parent does: standard input closes then. Signals are the parent's business, since a parent that
drains still needs its engine.
"""

import os
import queue
import signal
import sys
import threading
from typing import BinaryIO

from runtime.serve.engine.protocol import COMMAND, Cancel, Load, Ping, Start


def main() -> None:
    """Import torch, load the model that the first command names, serve until the pipe closes.

    Standard output is moved away first, so that a stray print can't break the protocol.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threads = sys.argv[1]
    # Threads that spin while they wait take the cores from the other replicas of the machine.
    os.environ.update(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads, OMP_WAIT_POLICY="PASSIVE")
    inbox: queue.SimpleQueue[Load | Start | Cancel | Ping] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, inbox), daemon=True).start()

    from runtime.serve.engine.loop import serve  # late: torch reads the environment on import

    serve(inbox, out, int(threads))


def _read(lines: BinaryIO, inbox: "queue.SimpleQueue[Load | Start | Cancel | Ping]") -> None:
    for line in lines:
        inbox.put(COMMAND.validate_json(line))
    os._exit(0)  # the parent is gone or done with us; nothing here is worth saving


if __name__ == "__main__":
    main()
