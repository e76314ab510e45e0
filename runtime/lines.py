"""What a node's process and its child say to each other: one JSON object a line, over two pipes.

Commands go in by the child's standard input, events come back by its standard output.
"""

from pydantic import BaseModel, ConfigDict


class Line(BaseModel):
    """Base of all messages; an unknown field is a fault of the kit, not of a user."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def encode(self) -> bytes:
        """The message as it crosses the pipe."""
        return self.model_dump_json().encode() + b"\n"
