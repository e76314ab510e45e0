"""What was asked of the strict double of AWS: its parameters, and what there is to answer from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from moto.core.exceptions import ServiceException

from tests.doubles.strict_cloud import Stored, StrictCloud

Said: TypeAlias = Mapping[str, object]
Answer: TypeAlias = "Callable[[Ask], Said]"


class Refusal(ServiceException):
    """What AWS answers instead of doing it."""

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(code, message)
        self.status = status  # None: as the service's model says


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request as it was understood. Types of resources are named without their package."""

    cloud: StrictCloud
    service: str
    operation: str
    region: str
    parameters: Said

    @property
    def call(self) -> str:
        """As policies and tables name it."""
        return f"{self.service}.{self.operation}"

    def text(self, key: str) -> str:
        """A parameter; empty if it was not given."""
        return str(self.parameters.get(key) or "")

    def texts(self, key: str) -> list[str]:
        """A parameter that is a list, or may be one."""
        value = self.parameters.get(key)
        return [str(item) for item in value] if isinstance(value, list) else [self.text(key)]

    def parts(self, key: str) -> list[Said]:
        """A parameter that is a list of structures."""
        value = self.parameters.get(key)
        return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []

    def all(self, *kinds: str, everywhere: bool = False) -> list[Stored]:
        """What there is of some types: in the region, unless it has none."""
        there = [one for kind in kinds for one in self.cloud.resources(f"aws:{kind}")]
        here = (None, self.region)
        return [one for one in there if everywhere or one.state.get("region") in here]

    def the(self, kind: str, handle: str, code: str) -> Stored:
        """One by its id, name or ARN; raises a Refusal with this code."""
        there = self.all(kind)
        found = [one for one in there if handle in one.handles | {one.state.get("name")}]
        if not found:
            raise Refusal(code, f"{handle} not found")
        return found[0]


def tags_of(thing: Stored) -> dict[str, str]:
    """As a map, whichever way its type writes them."""
    told = thing.state.get("tagsAll") or thing.state.get("tags") or {}
    if isinstance(told, list):
        told = {str(one["key"]): one["value"] for one in told if isinstance(one, dict)}
    return {key: str(value) for key, value in told.items()} if isinstance(told, dict) else {}


def pairs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """As most services write tags."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
