"""Which provider SDKs an environment holds: each says so in a `pulumi-plugin.json` of its own."""

from collections.abc import Iterator
from pathlib import Path

from pulumi.runtime.proto.plugin_pb2 import PackageDependency
from pydantic import BaseModel, ConfigDict, ValidationError

SDK_FILE = "pulumi-plugin.json"


class _Sdk(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    resource: bool = False
    name: str
    version: str
    server: str = ""


def packages_in(python: Path) -> list[PackageDependency]:
    """The plugins that the SDKs beside this interpreter want, by name."""
    found = python.parent.parent.glob(f"lib/python*/site-packages/*/{SDK_FILE}")
    return list(_packages(sorted(found)))


def _packages(files: list[Path]) -> Iterator[PackageDependency]:
    for file in files:
        try:
            sdk = _Sdk.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):  # an SDK that names no version is met when it is used
            continue
        if sdk.resource:
            yield PackageDependency(
                name=sdk.name,
                kind="resource",
                version=f"v{sdk.version.removeprefix('v')}",
                server=sdk.server,
            )
