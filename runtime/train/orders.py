"""What the agent has told its worker."""

import os
import queue
import threading
from collections.abc import Callable, Iterable

from runtime.train.protocol import COMMANDS, Abort, Epoch, Event, Keep, Pause, Ping, Pong, Work
from runtime.train.strategy import Strategy

Say = Callable[[Event], None]


class Orders:
    """What the agent has said; read in a thread, so that it reaches a busy worker."""

    def __init__(self, say: Say) -> None:
        self.inbox: queue.SimpleQueue[Work | Epoch | Keep] = queue.SimpleQueue()
        self.pause = threading.Event()
        self.save_s = 0.0  # how long a pause may wait for a commit; 0: it wants none
        self._say = say
        self._lock = threading.Lock()
        self._over = -1  # the newest epoch that is said to be over
        self._running: tuple[int, Strategy] | None = None

    def read(self, lines: Iterable[bytes]) -> None:
        """Until the agent is gone; then nobody needs this process."""
        for line in lines:
            match COMMANDS.validate_json(line):
                case Ping():
                    self._say(Pong())
                case Pause(save_s=save_s):
                    self.save_s = save_s or 0.0
                    self.pause.set()
                case Abort(number=number):
                    self._abort(number)
                case Work() | Epoch() | Keep() as command:
                    self.inbox.put(command)
        os._exit(0)

    def watch(self, epoch: int, strategy: Strategy) -> None:
        """Interrupt this strategy when the agent says that its epoch is over, or has said so."""
        with self._lock:
            self._running = (epoch, strategy)
            if self._over >= epoch:
                strategy.interrupt()

    def _abort(self, number: int) -> None:
        with self._lock:
            self._over = max(self._over, number)
            if self._running is not None and self._running[0] <= number:
                self._running[1].interrupt()
