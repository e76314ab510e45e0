"""What may stand at each path of a stack file, in words: for messages and the reference page."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from infra.plan.spec import StackSpec

NAMESPACE = "atoll"


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One value of a stack file."""

    path: str  # for example training.model.width
    allowed: str
    default: str  # as it would be written; empty if there is none
    description: str


def at(path: str) -> str:
    """How a message names a setting."""
    return f"{NAMESPACE}:{path}"


def instead(written: str, known: Iterable[str]) -> str:
    """What to do about a word that means nothing."""
    close = get_close_matches(written, list(known), n=1)
    return f"write {close[0]}" if close else "choose one of these"


def settings(model: type[BaseModel] = StackSpec, above: str = "") -> Iterator[Setting]:
    """All values of a model, in the order of its file."""
    for name, field in model.model_fields.items():
        part = part_of(field)
        if part is not None and field.default is not None:
            yield from settings(part, f"{above}{name}.")
            continue
        yield Setting(
            path=f"{above}{name}",
            allowed=allowed(field),
            default=default(field),
            description=field.description or "",
        )
        if part is not None:  # a part that is left out by default: a row for itself first
            yield from settings(part, f"{above}{name}.")


def field_at(path: tuple[int | str, ...]) -> FieldInfo | None:
    """The field that a path leads to, or that holds the list it leads into; None: there is none."""
    model: type[BaseModel] | None = StackSpec
    field: FieldInfo | None = None
    for step in path:
        if isinstance(step, int):
            return field
        if model is None or step not in model.model_fields:
            return None
        field = model.model_fields[step]
        model = part_of(field)
    return field


def part_at(path: str) -> type[BaseModel]:
    """The part at a path of keys, all of which there are; the whole for an empty one."""
    field = field_at(tuple(path.split("."))) if path else None
    part = StackSpec if field is None else part_of(field)
    assert part is not None, f"{path} holds a single value"
    return part


def part_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model that a field holds, if it holds one."""
    for choice in (field.annotation, *get_args(field.annotation)):
        if isinstance(choice, type) and issubclass(choice, BaseModel):
            return choice
    return None


def allowed(field: FieldInfo) -> str:
    """What may be written there; `text` where only the description can say it."""
    part = part_of(field)
    if part is not None:
        words = f"keys of {', '.join(part.model_fields)}"
    elif is_number(field):
        words = _range(field)
    else:
        words = _choices(field.annotation) or "text"
    return words if field.default is not None or field.is_required() else f"{words}, or nothing"


def is_number(field: FieldInfo) -> bool:
    """Whether the value is a whole or a real number."""
    return bool({int, float} & {field.annotation, *get_args(field.annotation)})


def _range(field: FieldInfo) -> str:
    bounds: list[object] = field.metadata
    low = next((f"{bound.ge}" for bound in bounds if isinstance(bound, Ge)), None)
    above = next((f"{bound.gt}" for bound in bounds if isinstance(bound, Gt)), None)
    high = next((f"{bound.le}" for bound in bounds if isinstance(bound, Le)), None)
    if low is not None and high is not None:
        return f"{low} to {high}"
    if low is not None:
        return f"{low} or more"
    return f"more than {above}" if above is not None else "any"


def _choices(annotation: object) -> str:
    """Words of a Literal, alone or as items of a list; empty if it is neither."""
    if get_origin(annotation) is Annotated:
        return _choices(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return ", ".join(str(choice) for choice in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"a list of {_choices(get_args(annotation)[0]) or 'texts'}"
    return ""


def default(field: FieldInfo) -> str:
    """As it would be written; empty if there is none."""
    if field.is_required() or part_of(field) is not None:
        return ""
    value = field.get_default(call_default_factory=True)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)
