"""First program of a node on one machine: check the bundle, unpack it, become the runtime.

`python -P node_boot.py NODE_FOLDER`. Stdlib only: on a cloud this part is a boot text. Says what it
does in the node's presence, since the runtime that would say it may be what is broken.

Exit status 65: the node file or the bundle is refused; starting again will not help by itself.
"""

import hashlib
import io
import json
import os
import secrets
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

EXIT_REFUSED = 65
NAME_HEX = 12  # of the bundle's digest, in the name of its folder
BUNDLE_BYTES_MAX = 64 << 20  # packed and unpacked


class RefusedBundle(Exception):
    """The node file or the bundle can't be used as it is."""


def main(folder: Path) -> int:
    """Become the runtime; returns only if that is refused."""
    code = prepare(folder)
    if code is None:
        return EXIT_REFUSED
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(folder)
    argv = [sys.executable, "-P", "-m", "runtime.node", str(folder / "node.json")]
    return os.execve(sys.executable, argv, {**os.environ, "PYTHONPATH": str(code)})  # noqa: S606


def prepare(folder: Path) -> Path | None:
    """The folder of this node's code; None if it is refused, which its presence then tells."""
    try:
        node = json.loads((folder / "node.json").read_bytes())
        control = store_folder(node["stores"]["control"])
        bundle = store_folder(node["stores"]["bundle"]) / node["bundle_sha256"]
        say(node, control, folder, "starting", "")
    except (OSError, ValueError, KeyError, TypeError, RefusedBundle) as fault:
        print(f"refused: {folder / 'node.json'}: {fault!r}", file=sys.stderr)
        return None
    try:
        return unpack(bundle, node["bundle_sha256"], folder / "bundle")
    except RefusedBundle as fault:
        print(f"refused: {fault}", file=sys.stderr)
        say(node, control, folder, "refused", str(fault))
        return None


def unpack(bundle: Path, sha256: str, into: Path) -> Path:
    """The folder of the checked and unpacked bundle; others are removed. Raises RefusedBundle.

    Always unpacked anew, from the bytes that were checked: a folder left from an earlier start
    may be half, or edited.
    """
    code = into / sha256[:NAME_HEX]
    partial = into / f"{sha256[:NAME_HEX]}.partial"
    data = checked(bundle, sha256)
    try:
        shutil.rmtree(into, ignore_errors=True)
        partial.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
            for name, content in files(archive):
                path = partial / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        partial.rename(code)
    except (OSError, tarfile.TarError) as fault:
        raise RefusedBundle(f"{bundle}: can't be unpacked into {into}: {fault}") from fault
    return code


def checked(bundle: Path, sha256: str) -> bytes:
    """The bytes of a bundle whose digest fits; raises RefusedBundle."""
    try:
        with bundle.open("rb") as file:
            data = file.read(BUNDLE_BYTES_MAX + 1)
    except OSError as fault:
        raise RefusedBundle(f"{bundle}: can't be read: {fault}; run: make up") from fault
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise RefusedBundle(
            f"{bundle}: found SHA-256 {found}; allowed only {sha256}: the bundle was changed or "
            "cut off; remove it and run: make up"
        )
    return data


def files(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    """Names and contents; plain files below the folder only. Raises RefusedBundle."""
    size_bytes = 0
    for member in archive:
        size_bytes += member.size
        if size_bytes > BUNDLE_BYTES_MAX:
            raise RefusedBundle(f"bundle: found more than {BUNDLE_BYTES_MAX} bytes unpacked")
        if member.isdir():
            continue
        path = PurePosixPath(member.name)
        content = archive.extractfile(member) if member.isreg() else None
        if content is None or path.is_absolute() or ".." in path.parts:
            raise RefusedBundle(f"bundle: found {member.name!r}; allowed plain files inside it")
        yield member.name, content.read()


def say(node: dict[str, object], control: Path, folder: Path, state: str, why: str) -> None:
    """Write the presence of this node, in whole or not at all; the runtime goes on with it."""
    roles = {"train": "training", "serve": "replica", "gateway": "gateway"}
    presence = {
        "node": node["node"],
        "pool": node["pool"],
        "role": next((role for part, role in roles.items() if node.get(part)), "training"),
        "address": node["address"],
        "boot_id": secrets.token_hex(8),
        "pid": os.getpid(),
        "state": state,
        "why": why,
    }
    place = control / "nodes" / str(node["node"])
    partial = folder / "presence.partial"  # not beside it: a store lists all that it holds
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(presence))
        try:
            partial.replace(place)
        except OSError:  # the store is on another file system
            place.write_text(json.dumps(presence))
    except OSError as fault:
        print(f"presence not written: {fault}", file=sys.stderr)


def store_folder(url: str) -> Path:
    """The folder behind the URL of a store; raises RefusedBundle for another kind of store."""
    parts = urlsplit(url)
    if parts.scheme != "file":
        raise RefusedBundle(f"store: found {url!r}; allowed file:// on one machine")
    return Path(unquote(parts.path))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute()))
