"""What a booting node does alike on every rented cloud. Stdlib only: its copy runs on the node.

`on_node.py COMMAND ...`. Exit status 65: the bundle is refused; another try won't help.
"""

import hashlib
import io
import json
import sys
import tarfile
import uuid
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NoReturn

EXIT_REFUSED = 65
UNPACKED_BYTES_MAX = 64 << 20
WHY_CHARACTERS_MAX = 600
ROLES = {"train": "training", "serve": "replica", "gateway": "gateway"}


def unpack(bundle: str, sha256: str, into: str) -> None:
    """The bundle's plain files, once its digest fits."""
    data = Path(bundle).read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        refuse(f"found SHA-256 {found}; allowed only {sha256}")
    left_bytes = UNPACKED_BYTES_MAX
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
            for member in archive:
                left_bytes -= member.size
                path = PurePosixPath(member.name)
                content = archive.extractfile(member) if member.isreg() else None
                if left_bytes < 0:
                    refuse(f"found over {UNPACKED_BYTES_MAX} bytes unpacked")
                if content is None or path.is_absolute() or ".." in path.parts:
                    refuse(f"found {member.name!r}; allowed plain files")
                place = Path(into, path)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content.read())
    except tarfile.TarError as fault:
        refuse(f"can't be unpacked: {fault}")


def refuse(why: str) -> NoReturn:
    """The bundle can't be used as it is."""
    print(f"bundle: {why}", file=sys.stderr)
    sys.exit(EXIT_REFUSED)


def describe(template: str, node: str, address: str, file: str) -> None:
    """The node file: the template and what this node alone knows."""
    told = json.loads(Path(template).read_bytes())
    Path(file).write_text(json.dumps({**told, "node": node, "address": address}))


def presence(
    template: str, node: str, address: str, pid: str, state: str, why: str, file: str
) -> None:
    """The presence object, which the runtime goes on with."""
    told = json.loads(Path(template).read_bytes())
    words = why.encode(errors="surrogateescape").decode(errors="replace")
    said = {
        "node": node,
        "pool": told["pool"],
        "role": next(role for part, role in ROLES.items() if told.get(part)),
        "address": address,
        "boot_id": uuid.uuid4().hex[:16],
        "pid": int(pid),
        "state": state,
        "why": words[:WHY_CHARACTERS_MAX],
    }
    Path(file).write_text(json.dumps(said))


if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {
        "unpack": unpack,
        "describe": describe,
        "presence": presence,
    }
    commands[sys.argv[1]](*sys.argv[2:])
