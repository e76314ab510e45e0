"""The only reader of Pulumi's configuration → StackSpec, with every fault at once."""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import get_args

from pulumi.runtime.config import get_config_env
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from infra.plan.fault import Fault
from infra.plan.spec import StackSpec

NAMESPACE = "atoll"
FOUND_CHARACTERS_MAX = 60
ROUNDS_MAX = 3  # a part that lost a setting it must have is dropped in the next round

DO = {
    "missing": "add it",
    "extra_forbidden": "remove it, or correct its name",
}


def stack_spec() -> tuple[StackSpec, list[Fault]]:
    """The spec of the stack that Pulumi runs, and what is wrong with it."""
    return read_spec({key: _parsed(value) for key, value in get_config_env().items()})


def read_spec(config: Mapping[str, object]) -> tuple[StackSpec, list[Fault]]:
    """The spec in a stack file's `config`; keys of other namespaces are not ours to judge.

    Where a setting is at fault the spec has its default, so that the plan can look for conflicts
    between the others and all faults come in one message.
    """
    prefix = f"{NAMESPACE}:"
    ours = {key.removeprefix(prefix): v for key, v in config.items() if key.startswith(prefix)}
    faults: list[Fault] = []
    for _ in range(ROUNDS_MAX):
        try:
            return StackSpec.model_validate(ours), faults
        except ValidationError as error:
            faults += [_fault(details) for details in error.errors()]
            ours = _without(ours, [details["loc"] for details in error.errors()])
    return StackSpec(), faults


def _without(
    settings: Mapping[str, object], paths: list[tuple[int | str, ...]]
) -> dict[str, object]:
    """A copy less the settings at these paths."""
    kept: dict[str, object] = {}
    for key, value in settings.items():
        below = [path[1:] for path in paths if path[0] == key]
        if not below:
            kept[key] = value
        elif all(below) and isinstance(value, Mapping):
            kept[key] = _without(value, below)
    return kept


def _parsed(value: str) -> object:
    """Pulumi hands objects over as JSON text and scalars as plain text."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def _fault(details: ErrorDetails) -> Fault:
    path = [str(step) for step in details["loc"]]
    kind = details["type"]
    if kind == "extra_forbidden":
        known = _fields(path[:-1])
        close = get_close_matches(path[-1], known, n=1)
        do = f"write {close[0]}" if close else DO[kind]
        return Fault(at=_at(path), found="a key of no meaning", allowed=", ".join(known), do=do)
    found = "nothing" if kind == "missing" else _short(details["input"])
    message = details["msg"].removeprefix("Value error, ")
    return Fault(
        at=_at(path), found=found, allowed=_allowed(message), do=DO.get(kind, "correct it")
    )


def _at(path: list[str]) -> str:
    return f"{NAMESPACE}:{'.'.join(path)}"


def _allowed(message: str) -> str:
    return message.removeprefix("Input should be ").removeprefix("a valid ")


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= FOUND_CHARACTERS_MAX else text[:FOUND_CHARACTERS_MAX] + "…"


def _fields(path: list[str]) -> list[str]:
    """Names of the fields that the model at a path has."""
    model: type[BaseModel] = StackSpec
    for step in path:
        annotation = model.model_fields[step].annotation
        choices = [annotation, *get_args(annotation)]
        model = next(c for c in choices if isinstance(c, type) and issubclass(c, BaseModel))
    return sorted(model.model_fields)
