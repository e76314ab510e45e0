"""Which release of Pulumi is pinned, and which are good enough.

Pure but for reading Pulumi.yaml, the one home of the lowest version.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from runtime.errors import Refused

VERSION = "3.259.0"  # build/go.mod pins the same; a test compares them
BY_HAND = "https://www.pulumi.com/docs/install/"

# SHA-256 of pulumi-v<VERSION>-<platform>.tar.gz. A platform without an entry is never downloaded,
# unless $ATOLL_PULUMI_SHA256 names the digest: what can't be verified is not run. The release's
# own list is pulumi-<VERSION>-checksums.txt beside the archives.
SHA256: Mapping[str, str] = {}
SHA256_VARIABLE = "ATOLL_PULUMI_SHA256"

MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}

Version = tuple[int, int, int]
Origin = Literal["path", "archive", "built"]


@dataclass(frozen=True, slots=True)
class Engine:
    """A Pulumi CLI that runs here, with a Python language host beside it."""

    pulumi: Path
    version: str
    origin: Origin


def platform_name(system: str, machine: str) -> str:
    """As the release archives spell it, from `platform.system()` and `platform.machine()`.

    What they don't know keeps its own name: Go may still build for it.
    """
    return f"{system.lower()}-{MACHINES.get(machine.lower(), machine.lower())}"


def parse_version(text: str) -> Version | None:
    """`v3.259.0` or `3.259.0-alpha.1` → (3, 259, 0); None if there is no version in it."""
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text.strip())
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def lowest_version(project_file: Path) -> str:
    """`requiredPulumiVersion` of Pulumi.yaml without its `>=`; raises Refused."""
    try:
        found = yaml.safe_load(project_file.read_text()).get("requiredPulumiVersion")
    except (OSError, AttributeError, yaml.YAMLError) as fault:
        raise Refused(f"{project_file}: can't be read: {fault}") from fault
    match = re.fullmatch(r">=\s*(\d+\.\d+\.\d+)", str(found))
    if match is None:
        raise Refused(f'{project_file}: requiredPulumiVersion: found {found!r}; allowed ">=X.Y.Z"')
    return match[1]
