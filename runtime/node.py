"""Start of a node: node file → role.

`python -m runtime.node NODE_JSON`. Exit status 0: left on purpose; 1: a fault, start me again;
65: the node file or what it names is refused, starting again will not help by itself.
"""

import logging
import os
import secrets
import sys
import threading
from importlib import import_module
from pathlib import Path

from pydantic import ValidationError

from runtime.clouds.logs import shipped
from runtime.coordination.log import Presence
from runtime.coordination.presence import Heart
from runtime.errors import AtollError, Corrupt, Refused
from runtime.limits import CONTROL_PATIENCE_S
from runtime.node_spec import NodeSpec
from runtime.objects import open_store
from runtime.role import Node
from runtime.signals import stop_event

EXIT_FAULT = 1
EXIT_REFUSED = 65

# Imported late: a gateway needs no torch.
ROLES = {
    "training": "runtime.train.agent",
    "replica": "runtime.serve.replica",
    "gateway": "runtime.serve.gateway.process",
}

FORM = "%(asctime)s %(levelname)s %(name)s: %(message)s"  # of log lines

log = logging.getLogger("node")


def run(spec: NodeSpec, folder: Path, leaving: threading.Event) -> int:
    """Run the role until it is done or told to leave; returns the exit status."""
    boot_id = secrets.token_hex(8)
    with shipped(spec, boot_id, FORM) as stderr:
        return _run(spec, folder, leaving, boot_id, stderr)


def _run(
    spec: NodeSpec, folder: Path, leaving: threading.Event, boot_id: str, stderr: int | None
) -> int:
    try:
        control = open_store(spec.stores.control, patience_s=CONTROL_PATIENCE_S)
    except AtollError as fault:  # no store, hence no presence to say it in
        log.error("control store: %s", fault)
        return EXIT_REFUSED if isinstance(fault, Refused) else EXIT_FAULT
    heart = Heart(
        control,
        Presence(
            node=spec.node,
            pool=spec.pool,
            role=spec.role,
            address=spec.address,
            boot_id=boot_id,
            pid=os.getpid(),
            state="starting",
        ),
    )
    heart.start()
    node = Node(
        spec=spec, control=control, heart=heart, folder=folder, leaving=leaving, stderr=stderr
    )
    try:
        import_module(ROLES[spec.role]).run(node)
    except (Refused, Corrupt) as fault:
        log.error("refused: %s", fault)
        heart.say(state="refused", why=str(fault))
        return EXIT_REFUSED
    except AtollError as fault:
        log.error("failed: %s", fault)
        heart.say(state="failed", why=str(fault))
        return EXIT_FAULT
    else:
        heart.say(state="stopped")
        return 0
    finally:
        heart.stop()


def main() -> int:
    """Read the node file named on the command line and run it."""
    logging.basicConfig(level=logging.INFO, format=FORM)
    path = Path(sys.argv[1])
    try:
        spec = NodeSpec.model_validate_json(path.read_bytes())
    except ValidationError as fault:
        log.error("%s: %s", path, fault)
        return EXIT_REFUSED
    return run(spec, path.parent.absolute(), stop_event())


if __name__ == "__main__":
    sys.exit(main())
