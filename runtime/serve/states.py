"""May ready follow draining? The life of a replica and of a gateway, as a table.

Pure. A pair that is not in the table is an error and changes nothing. Ready means proved: a
replica has made a real token with the model it serves, a gateway knows a replica that is ready.
"""

from collections.abc import Mapping
from enum import StrEnum

from runtime.errors import Refused


class State(StrEnum):
    """Where a serving process stands; the words of presence and of `/readyz`."""

    STARTING = "starting"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


class Event(StrEnum):
    """What may happen to it."""

    LISTENING = "listening"  # the port is open
    PROVED = "proved"  # it has been seen to work
    LOST = "lost"  # what proved it is gone: the engine died, the last replica left
    LEAVE = "leave"  # it was told to go
    DRAINED = "drained"  # nothing is open any more, or the wait for it is over


TABLE: Mapping[State, Mapping[Event, State]] = {
    State.STARTING: {Event.LISTENING: State.WARMING, Event.LEAVE: State.STOPPED},
    State.WARMING: {Event.PROVED: State.READY, Event.LEAVE: State.STOPPED},
    State.READY: {Event.LOST: State.WARMING, Event.LEAVE: State.DRAINING},
    State.DRAINING: {Event.LOST: State.DRAINING, Event.DRAINED: State.STOPPED},
    State.STOPPED: {},
}


class Life:
    """One walk through the table."""

    def __init__(self) -> None:
        self.state = State.STARTING

    def take(self, event: Event) -> State:
        """Go where the table leads; raises Refused and stays if it leads nowhere."""
        row = TABLE[self.state]
        if event not in row:
            raise Refused(
                f"serving state: found {event.value!r} while {self.state.value}; "
                f"allowed {', '.join(row) or 'nothing'}"
            )
        self.state = row[event]
        return self.state

    def may(self, event: Event) -> bool:
        """Whether the table has a way for this event."""
        return event in TABLE[self.state]
