"""The only reader of Pulumi's configuration → StackSpec, with every fault at once."""

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from pulumi.runtime.config import get_config_env
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from infra.plan.fault import Fault
from infra.plan.settings import (
    NAMESPACE,
    allowed,
    at,
    default,
    field_at,
    is_number,
    part_at,
)
from infra.plan.spec import CLOUDS_KNOWN, StackSpec

FOUND_CHARACTERS_MAX = 60
READINGS_MAX = 5  # each drops at least a setting, and parts lie no deeper

Path = tuple[int | str, ...]


def stack_spec() -> tuple[StackSpec, list[Fault]]:
    """The spec of the stack that Pulumi runs, and what is wrong with it."""
    return read_spec({key: _parsed(value) for key, value in get_config_env().items()})


def read_spec(config: Mapping[str, object]) -> tuple[StackSpec, list[Fault]]:
    """The spec in a stack file's `config`; keys of other namespaces are not ours to judge.

    Where a setting is at fault the spec has its default, so that the plan can look for conflicts
    between the others and all faults come in one message. A key without a namespace is ours, as
    Pulumi has it too.
    """
    ours = _ours(config)
    faults = {path: _flag(path, value) for path, value in _flags(ours)}
    ours = _without(ours, faults)
    for _ in range(READINGS_MAX):
        try:
            return StackSpec.model_validate(ours), list(faults.values())
        except ValidationError as error:
            errors = error.errors()
        # What was dropped as faulty is not also missing: the first fault of a path stays.
        faults = {details["loc"]: _fault(details) for details in errors} | faults
        ours = _without(ours, [_dropped(details) for details in errors])
    raise AssertionError("each reading drops what the last one refused")


def _ours(config: Mapping[str, object]) -> dict[str, object]:
    """Settings of our namespace in the shapes of JSON, whoever has parsed them."""
    prefix = f"{NAMESPACE}:"
    ours = {
        key.removeprefix(prefix): value
        for key, value in config.items()
        if key.startswith(prefix) or ":" not in key
    }
    return dict(json.loads(json.dumps(ours, default=str)))


def _dropped(details: ErrorDetails) -> Path:
    """The setting at fault; what lacks one that it must have goes as a whole."""
    path = details["loc"]
    return path[:-1] if details["type"] == "missing" else path


def _parsed(value: str) -> object:
    """Pulumi hands objects over as JSON text and scalars as plain text."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def _flags(value: object, path: Path = ()) -> Iterable[tuple[Path, bool]]:
    """True and false where a number belongs: pydantic would read them as 1 and 0."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flags(inner, (*path, str(key)))
    elif isinstance(value, bool):
        field = field_at(path)
        if field is not None and is_number(field):
            yield path, value


def _flag(path: Path, value: bool) -> Fault:
    return _fault({"type": "number", "loc": path, "msg": "", "input": value})


def _without(settings: Mapping[str, object], paths: Iterable[Path]) -> dict[str, object]:
    """A copy less the settings at these paths."""
    paths = list(paths)
    kept: dict[str, object] = {}
    for key, value in settings.items():
        below = [path[1:] for path in paths if path[:1] == (key,)]
        if not below:
            kept[key] = value
        elif all(below) and isinstance(value, Mapping):
            kept[key] = _without(value, below)
    return kept


def _fault(details: ErrorDetails) -> Fault:
    path = details["loc"]
    name = at(".".join(str(step) for step in path))
    if details["type"] == "extra_forbidden":
        return _unknown_key(name, path)
    field = field_at(path)
    assert field is not None, "pydantic found it"
    found = "nothing" if details["type"] == "missing" else _short(details["input"])
    words = allowed(field)
    if details["type"].startswith("int_"):
        words = f"a whole number, {words}"
    if words.startswith(("text", "a list of texts")):
        words = f"{words}: {(field.description or '').removesuffix('.')}"
    return Fault(at=name, found=found, allowed=words, do=_do(details["type"], default(field)))


def _unknown_key(name: str, path: Path) -> Fault:
    *above, key = map(str, path)
    known = list(part_at(".".join(above)).model_fields)
    close = get_close_matches(key, known, n=1)
    if key in CLOUDS_KNOWN:
        do = "remove it: no cloud has settings of its own yet"
    else:
        do = f"write {close[0]}" if close else "remove it"
    return Fault(at=name, found="a key of no meaning", allowed=", ".join(known), do=do)


def _do(kind: str, without: str) -> str:
    if kind == "missing":
        return "add it"
    return f"correct it, or remove it for {without}" if without else "correct or remove it"


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= FOUND_CHARACTERS_MAX else text[:FOUND_CHARACTERS_MAX] + "…"
