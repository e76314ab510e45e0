"""First program of a node: what it refuses, and that it becomes the code it was given."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from infra.provider import node_boot
from infra.provider.node_boot import EXIT_REFUSED, RefusedBundle, unpack
from runtime.coordination.log import Presence

TELLS = b"import json, os, sys\njson.dump([os.getpid(), os.getcwd(), sys.argv, sys.path], "
TELLS += b"open('told', 'w'))\n"


def packed(**members: bytes) -> bytes:
    """An archive of plain files; `__` in a name stands for a slash."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def stored(folder: Path, data: bytes) -> tuple[Path, str]:
    """A bundle in a folder store."""
    sha256 = hashlib.sha256(data).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / sha256).write_bytes(data)
    return folder / sha256, sha256


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """Folder of a node whose bundle only tells how it was started."""
    bundles = tmp_path / "stores with spaces" / "bundle"
    _, sha256 = stored(bundles, packed(runtime____init__=b"", runtime__node=b""))
    data = packed(**{"runtime____init__.py": b"", "runtime__node.py": TELLS})
    _, sha256 = stored(bundles, data)
    folder = tmp_path / "nodes" / "replica-0"
    folder.mkdir(parents=True)
    spec = {
        "node": "replica-0",
        "pool": "replica",
        "address": "127.9.9.100",
        "bundle_sha256": sha256,
        "serve": {"port": 8000},
        "stores": {
            "bundle": "file://" + str(bundles).replace(" ", "%20"),
            "control": f"file://{tmp_path}/control",
        },
    }
    (folder / "node.json").write_text(json.dumps(spec))
    return folder


def boot(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it as a keeper does."""
    return subprocess.run(
        [sys.executable, "-P", str(node_boot.__file__), str(folder)],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def presence(folder: Path) -> Presence:
    """What the node said last."""
    return Presence.model_validate_json(
        (folder.parent.parent / "control" / "nodes" / folder.name).read_bytes()
    )


def test_it_becomes_the_bundle_and_nothing_of_this_checkout(node: Path) -> None:
    done = boot(node)

    assert done.returncode == 0, done.stderr
    pid, cwd, argv, path = json.loads((node / "told").read_text())
    assert pid == presence(node).pid
    assert cwd == str(node)
    assert argv == [str(next(node.glob("bundle/*/runtime/node.py"))), str(node / "node.json")]
    assert Path(path[0]).parent == node / "bundle"
    assert str(Path(node_boot.__file__).parents[2]) not in path[:1]
    assert presence(node).state == "starting"


def test_a_flipped_byte_is_refused_and_said(node: Path) -> None:
    spec = json.loads((node / "node.json").read_text())
    bundle = node_boot.store_folder(spec["stores"]["bundle"]) / spec["bundle_sha256"]
    data = bytearray(bundle.read_bytes())
    data[600] ^= 1
    bundle.write_bytes(data)

    done = boot(node)

    assert done.returncode == EXIT_REFUSED
    assert not (node / "told").exists()
    assert presence(node).state == "refused"
    assert "SHA-256" in presence(node).why
    assert "make up" in presence(node).why


def test_a_missing_bundle_is_refused_and_said(node: Path) -> None:
    spec = json.loads((node / "node.json").read_text())
    (node_boot.store_folder(spec["stores"]["bundle"]) / spec["bundle_sha256"]).unlink()

    assert boot(node).returncode == EXIT_REFUSED
    assert "can't be read" in presence(node).why


@pytest.mark.parametrize("text", ["", "[]", '{"node": "a"}', '{"stores": {"control": "s3://a"}}'])
def test_a_node_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "node.json").write_text(text)

    assert boot(tmp_path).returncode == EXIT_REFUSED


@pytest.mark.parametrize("name", ["/etc/x", "runtime/../../x", ".."])
def test_a_name_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    bundle, sha256 = stored(tmp_path / "store", packed(**{name: b""}))

    with pytest.raises(RefusedBundle, match="plain files"):
        unpack(bundle, sha256, tmp_path / "inner" / "into")

    assert not (tmp_path / "inner" / "x").exists()


def test_a_link_in_a_bundle_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("runtime")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
    bundle, sha256 = stored(tmp_path / "store", out.getvalue())

    with pytest.raises(RefusedBundle, match="plain files"):
        unpack(bundle, sha256, tmp_path / "into")


def test_an_edited_folder_of_an_earlier_start_is_not_used(tmp_path: Path) -> None:
    bundle, sha256 = stored(tmp_path / "store", packed(**{"a.py": b"good"}))
    edited = unpack(bundle, sha256, tmp_path / "into") / "a.py"
    edited.write_bytes(b"bad")

    again = unpack(bundle, sha256, tmp_path / "into")

    assert (again / "a.py").read_bytes() == b"good"
    assert [path.name for path in (tmp_path / "into").iterdir()] == [sha256[:12]]


def test_bytes_that_are_no_archive_are_refused(tmp_path: Path) -> None:
    bundle, sha256 = stored(tmp_path / "store", b"no archive")

    with pytest.raises(RefusedBundle, match="unpacked"):
        unpack(bundle, sha256, tmp_path / "into")
