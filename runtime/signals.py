"""SIGINT and SIGTERM as an event that any thread may wait for."""

import os
import signal
import threading


def stop_event() -> threading.Event:
    """Set by SIGINT and SIGTERM from now on; for the main thread to call.

    A thread sets it: a handler that meets its own thread inside the event's lock waits forever.
    """
    told, tell = os.pipe()
    event = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os.write(tell, b"."))

    def wait() -> None:
        os.read(told, 1)
        event.set()

    threading.Thread(target=wait, name="signals", daemon=True).start()
    return event
