import re
from pathlib import Path

import pytest

from infra.checkout import ROOT
from infra.engine.go import BUILD
from infra.engine.release import (
    SHA256,
    VERSION,
    lowest_version,
    parse_version,
    platform_name,
)
from runtime.errors import Refused


def test_the_go_build_and_the_archive_are_of_one_version() -> None:
    pins = re.findall(
        r"^require github.com/pulumi/pulumi/pkg/v3 v(\S+)", (BUILD / "go.mod").read_text(), re.M
    )

    assert pins == [VERSION]


def test_the_pinned_version_is_good_enough_for_the_project() -> None:
    pinned, lowest = parse_version(VERSION), parse_version(lowest_version(ROOT / "Pulumi.yaml"))

    assert pinned is not None
    assert lowest is not None
    assert pinned >= lowest


def test_every_pinned_digest_is_a_sha256() -> None:
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in SHA256.values())


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("v3.259.0\n", (3, 259, 0)),
        ("3.260.1-alpha.2", (3, 260, 1)),
        ("3.99.0", (3, 99, 0)),
        ("", None),
        ("command not found", None),
    ],
)
def test_versions_are_read_as_pulumi_prints_them(
    text: str, version: tuple[int, int, int] | None
) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("system", "machine", "name"),
    [
        ("Linux", "x86_64", "linux-x64"),
        ("Linux", "aarch64", "linux-arm64"),
        ("Darwin", "arm64", "darwin-arm64"),
        ("Linux", "riscv64", "linux-riscv64"),
    ],
)
def test_platforms_are_spelt_as_the_release_does(system: str, machine: str, name: str) -> None:
    assert platform_name(system, machine) == name


@pytest.mark.parametrize(
    "text", ["name: x\n", "requiredPulumiVersion: '<4'\n", "- a list\n", "a: [\n"]
)
def test_a_project_without_a_lowest_version_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "Pulumi.yaml"
    file.write_text(text)

    with pytest.raises(Refused, match=r"Pulumi\.yaml"):
        lowest_version(file)
