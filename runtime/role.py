"""What every role is handed when its node starts."""

import threading
from dataclasses import dataclass
from pathlib import Path

from runtime.coordination.presence import Heart
from runtime.node_spec import NodeSpec
from runtime.objects import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A node as its role sees it: its spec, its stores, its heart, and the wish to leave."""

    spec: NodeSpec
    control: Store
    heart: Heart
    folder: Path  # its own, to keep working files in
    leaving: threading.Event  # set by SIGTERM and SIGINT: finish what is open, then return
    stderr: int | None = None  # where its children write; None: where this process does
