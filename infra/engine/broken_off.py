"""What a killed Pulumi was about to do: its state says so, and not whether it was done."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

OURS = "atoll:"  # types of the kit's own provider


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """A resource that was being made, and may exist unseen."""

    type: str
    inputs: Mapping[str, object]

    def text(self, name: str) -> str:
        """An input; empty if it has none."""
        return str(self.inputs.get(name) or "")


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokenOff:
    """An exported state, as far as something in it was broken off."""

    is_any: bool  # also changes and deletes, which are simply done again
    begun: tuple[Begun, ...]
    known: frozenset[str]  # ids, names and ARNs of all that the state holds


def broken_off(exported: str) -> BrokenOff:
    """Read `pulumi stack export`; an empty text has nothing broken off."""
    state = _State.model_validate_json(exported or "{}")
    deployment = state.deployment or _Deployment()
    operations = deployment.pending_operations or ()
    begun = tuple(
        Begun(type=one.resource.type, inputs=one.resource.inputs)
        for one in operations
        if one.type == "creating" and not one.resource.type.startswith(OURS)
    )
    known = frozenset(word for one in deployment.resources or () for word in _words(one))
    return BrokenOff(is_any=bool(operations), begun=begun, known=known)


class _Resource(BaseModel):
    """Of Pulumi's checkpoint format, version 3 (`apitype.ResourceV3`)."""

    model_config = ConfigDict(extra="ignore")

    type: str
    id: str = ""
    inputs: dict[str, object] = Field(default_factory=dict)
    outputs: dict[str, object] = Field(default_factory=dict)


class _Operation(BaseModel):
    model_config = ConfigDict(extra="ignore")

    resource: _Resource
    type: str


class _Deployment(BaseModel):
    model_config = ConfigDict(extra="ignore")

    resources: tuple[_Resource, ...] | None = None
    pending_operations: tuple[_Operation, ...] | None = None


class _State(BaseModel):
    model_config = ConfigDict(extra="ignore")

    deployment: _Deployment | None = None


def _words(resource: _Resource) -> Iterator[str]:
    told = (resource.id, *(resource.outputs.get(name) for name in ("arn", "name", "bucket")))
    yield from (word for word in told if isinstance(word, str) and word)
