"""How a cloud's types look from outside: ids, outputs, what can't change in place."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from infra.provider.wire import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a cloud answers for one type; texts are templates over inputs, `id`, `name`, marks."""

    id: str = ""  # empty: the name
    arn: str = ""
    replaces: frozenset[str] = frozenset()  # inputs that can't change in place; `*` is all
    outputs: Mapping[str, Value] = field(default_factory=dict)  # also those that may be given
    named: str = "name"  # the input that is its name; made up where it is optional and left out
    names: str = ".+"  # what the cloud takes for a name
    unique: tuple[str, ...] = ()  # inputs that no two of a type have alike
    is_put: bool = False  # what is made again is written over
    contents: frozenset[str] = frozenset()  # types that go first, or with it if forceDestroy is set


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """One cloud's. Types that are not in it get ids and outputs by rule, and never a new name."""

    types: Mapping[str, Look] = field(default_factory=dict)
    common: Mapping[str, Value] = field(default_factory=dict)  # outputs of every type that has them
    config: frozenset[str] = frozenset()  # what its provider can't do without
    tags: str = "tags"  # the input
    default_tags: str = ""  # where the provider is told of tags for everything
    answers: Mapping[str, Look] = field(default_factory=dict)  # of functions


def looks_of(package: str, table: str, **special: Mapping[str, Value]) -> dict[str, Look]:
    """Read a table: type, id, ARN, inputs that replace; indented below it, outputs.

    `-` is none, `@` in an ARN is region and account. `special` are outputs by class name that a
    line doesn't hold.
    """
    looks: dict[str, Look] = {}
    for line in table.strip("\n").splitlines():
        words = ["" if word == "-" else word for word in line.split()]
        if line.startswith(" "):
            token, look = looks.popitem()
            pairs = [word.partition("=") for word in words]
            outputs = {key: _typed(value) for key, _, value in pairs}
            looks[token] = replace(look, outputs={**look.outputs, **outputs})
        else:
            kind, identity, arn, replaces = words
            arn = arn and "arn:aws:" + arn.replace("@", "{region}:{account}")
            outputs = dict(special.get(kind.rpartition(":")[2], {}))
            fixed = frozenset(filter(None, replaces.split(",")))
            look = Look(id=identity, arn=arn, replaces=fixed, outputs=outputs)
            looks[f"{package}:{kind}"] = look
    return looks


def _typed(text: str) -> Value:
    try:
        value: Value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value
