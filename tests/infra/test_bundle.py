"""The bundle is a function of the tree's content alone."""

import io
import os
import shutil
import tarfile
from pathlib import Path

from infra.bundle import build_bundle
from infra.checkout import ROOT


def test_two_copies_with_other_times_and_modes_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(ROOT / "runtime", tmp_path / name / "runtime")
    for path in (tmp_path / "two").rglob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    (tmp_path / "two" / "runtime" / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "two" / "runtime" / "__pycache__" / "x.py").write_text("stale")

    assert build_bundle(tmp_path / "one") == build_bundle(tmp_path / "two")


def test_one_changed_byte_changes_the_name(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "runtime", tmp_path / "runtime")
    before = build_bundle(tmp_path)
    with (tmp_path / "runtime" / "limits.py").open("a") as file:
        file.write("#")

    assert build_bundle(tmp_path).sha256 != before.sha256


def test_it_holds_what_a_node_needs_and_nothing_of_the_operator() -> None:
    with tarfile.open(fileobj=io.BytesIO(build_bundle(ROOT).data)) as archive:
        names = archive.getnames()

    assert "runtime/node.py" in names
    assert "runtime/requirements.lock" in names
    assert all(name.startswith("runtime/") for name in names)
