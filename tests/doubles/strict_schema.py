"""What a Pulumi SDK says of itself: which class a token is, what goes in, what comes out.

Providers check inputs against a schema that only their binaries hold. The SDKs repeat it as Python
types, and dicts given in place of argument classes are checked by nobody: here they are. Covers
names, required ones, types, nested shapes, enums and IAM documents; not the values' own rules
(whether a machine type exists), nor which of two inputs exclude each other.
"""

import difflib
import importlib
import inspect
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache, cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, UnionType
from typing import (
    Any,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import pulumi
from pulumi import _types

from infra.provider.wire import SIGNATURE, Properties, Value, has_unknown
from tests.doubles.strict_aws import AWS
from tests.doubles.strict_looks import Looks

# Any: what `typing` takes apart (unions, generics, classes) has no common type.
Hint: TypeAlias = Any

ASSETS = (pulumi.Asset, pulumi.Archive)
# Documents that clouds take as JSON text too; the same shape is asked of both.
DOCUMENTS = {"PolicyDocumentArgs"}
# Enums that lag behind what their cloud knows.
OPEN_ENUMS = {"InstanceType", "Region"}
# Every provider takes these beside its own configuration.
ENGINE_CONFIG = {"version", "pluginDownloadURL"}
MODULES = re.compile(r'resource_modules="""(.*?)"""', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the inputs."""

    path: str
    reason: str


@dataclass(frozen=True)
class Shape:
    """The inputs of a resource, of a provider, or of a nested block, by their wire names."""

    name: str
    hints: Mapping[str, Hint]
    required: frozenset[str]

    def problems(self, inputs: Properties, at: str = "") -> Iterator[Problem]:
        """All that is wrong, unknown values aside."""
        for key, value in inputs.items():
            if key.startswith("__") or (not at and key in ENGINE_CONFIG - self.hints.keys()):
                continue
            path = f"{at}.{key}" if at else key
            if key in self.hints:
                yield from _problems(path, value, self.hints[key])
            else:
                yield Problem(path, f"{self.name} has no property '{key}'{self._meant(key)}")
        for key in sorted(self.required):
            if inputs.get(key) is None:
                path = f"{at}.{key}" if at else key
                yield Problem(path, f"{self.name} wants property '{key}', and it is missing")

    def is_text(self, key: str) -> bool:
        """Whether an optional input takes plain text, as names do."""
        return key not in self.required and str in _options(self.hints.get(key))

    def _meant(self, key: str) -> str:
        close = difflib.get_close_matches(key, self.hints, n=1)
        return f"; did you mean '{close[0]}'?" if close else ""


@dataclass(frozen=True)
class ResourceType:
    """One resource class of an SDK."""

    token: str
    inputs: Shape
    outputs: Mapping[str, Hint]

    def empty(self, key: str) -> Value:
        """What an output holds that nobody has set and no table knows."""
        return _empty(self.outputs[key], depth=0)


class Sdk:
    """A provider package as installed, e.g. `Sdk("aws")`; modules are imported when asked for."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.module = f"pulumi_{package.replace('-', '_')}"
        self._types: dict[str, ResourceType] = {}

    @property
    def version(self) -> str:
        """Of the installed SDK, which is that of the provider it wants."""
        return version(self.module)

    def resource(self, token: str) -> ResourceType:
        """Raises KeyError for a token that the SDK has no class for."""
        if token not in self._types:
            module, name = self._classes[token]
            kind = getattr(importlib.import_module(module), name)
            home = sys.modules[kind.__module__]
            # Where a nested block has taken the plain name, the resource's class is an InitArgs.
            arguments = getattr(home, f"{name}InitArgs", None) or getattr(home, f"{name}Args")
            self._types[token] = ResourceType(token, _shape(arguments), _types.resource_types(kind))
        return self._types[token]

    @cached_property
    def config(self) -> Shape:
        """What the provider itself is configured with."""
        return _shape(importlib.import_module(f"{self.module}.provider").ProviderArgs)

    def opened(self, config: Properties) -> Properties:
        """Configuration as it was meant: whatever is not text travels as JSON text."""
        return {key: _opened(self.config.hints.get(key), v) for key, v in config.items()}

    @cached_property
    def _classes(self) -> dict[str, tuple[str, str]]:
        spec = find_spec(self.module)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"{self.module} is not installed", name=self.module)
        found = MODULES.search(Path(spec.origin).read_text())
        assert found is not None, f"{self.module} lists no resources"
        return {
            token: (module["fqn"], name)
            for module in json.loads(found[1])
            for token, name in module["classes"].items()
        }


def _opened(hint: Hint, value: Value) -> Value:
    if isinstance(value, str) and not has_unknown(value) and str not in _options(hint):
        try:
            opened: Value = json.loads(value)
        except json.JSONDecodeError:
            return value
        return opened
    return value


@cache
def _shape(kind: type) -> Shape:
    home = sys.modules[kind.__module__]
    names: dict[str, str] = _types.input_type_py_to_pulumi_names(kind)
    hints = get_type_hints(inspect.getattr_static(kind, "__init__"), globalns=_scope(home))
    parameters = inspect.signature(kind).parameters
    required = {names[k] for k, p in parameters.items() if k in names and p.default is p.empty}
    return Shape(
        name=kind.__name__,
        hints={wire: hints[python] for python, wire in names.items()},
        required=frozenset(required),
    )


def _scope(home: ModuleType) -> dict[str, Hint]:
    """`pulumi.Input` holds forward references to names of its own module."""
    return {"Output": pulumi.Output, "T": TypeVar("T"), **vars(home)}


def _options(hint: Hint) -> list[Hint]:
    """What a value may be: unions flattened, without the plumbing of `pulumi.Input`."""
    origin: Hint = get_origin(hint) or hint
    if origin in (Union, UnionType):
        return [option for arm in get_args(hint) for option in _options(arm)]
    if isinstance(origin, type):
        if issubclass(origin, pulumi.Resource):
            return [str]  # a reference arrives as the id
        if issubclass(origin, pulumi.Output | type(None)) or origin.__name__ == "Awaitable":
            return []
        if is_typeddict(origin):
            return []  # repeats the argument class beside it
    return [hint]


def _problems(path: str, value: Value, hint: Hint) -> Iterator[Problem]:
    options = _options(hint)
    enums = [o for o in options if inspect.isclass(o) and issubclass(o, Enum)]
    if value is None or (isinstance(value, str) and has_unknown(value)) or Any in options:
        return
    if enums and isinstance(value, str | int) and enums[0].__name__ not in OPEN_ENUMS:
        options = enums  # `str` beside an enum is there for its spelling only
    tried = [list(_problems_as(path, value, option)) for option in options]
    documents = [o for o in options if getattr(o, "__name__", "") in DOCUMENTS]
    if documents and isinstance(value, str):
        tried = [list(_document_problems(path, value, documents[0]))]
    if all(tried):
        # The arm that came furthest tells most: the one whose problems lie deepest.
        yield from max(tried, key=lambda problems: max(len(p.path) for p in problems))


def _problems_as(path: str, value: Value, option: Hint) -> Iterator[Problem]:
    origin, arguments = get_origin(option) or option, get_args(option)
    if not inspect.isclass(origin):
        return
    if isinstance(value, dict) and SIGNATURE in value:
        if not issubclass(origin, ASSETS):
            yield Problem(path, f"wants {_called(origin)}, got an asset")
    elif _types.is_input_type(origin) and isinstance(value, dict):
        yield from _shape(origin).problems(value, path)
    elif issubclass(origin, Mapping) and isinstance(value, dict):
        for key, item in value.items():
            yield from _problems(f"{path}.{key}", item, arguments[1])
    elif issubclass(origin, Sequence) and origin is not str and isinstance(value, list):
        for number, item in enumerate(value):
            yield from _problems(f"{path}[{number}]", item, arguments[0])
    elif issubclass(origin, Enum):
        values = [member.value for member in origin]
        if value not in values:
            yield Problem(path, f"{value!r} is not a value of {origin.__name__}: {values}")
    elif not _is_plain(value, origin):
        yield Problem(path, f"wants {_called(origin)}, got {_shown(value)}")


def _is_plain(value: Value, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return kind in (str, int, bool) and type(value) is kind


def _called(kind: type) -> str:
    if issubclass(kind, ASSETS):
        return "an asset"
    if issubclass(kind, Mapping):
        return "an object"
    return "a list" if issubclass(kind, Sequence) and kind is not str else kind.__name__


def _shown(value: Value) -> str:
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else repr(value)


def _document_problems(path: str, text: str, kind: type) -> Iterator[Problem]:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as fault:
        yield Problem(path, f"is not JSON: {fault}")
        return
    yield from _problems_as(path, document, kind)


def _empty(hint: Hint, depth: int) -> Value:
    for option in _options(hint):
        origin = get_origin(option) or option
        if not inspect.isclass(origin):
            continue
        if _types.is_output_type(origin) and depth < 3:
            inner = _types.output_type_types(origin)
            return {key: _empty(kind, depth + 1) for key, kind in inner.items()}
        if issubclass(origin, Mapping):
            return {}
        if issubclass(origin, Sequence) and origin is not str:
            return []
        if origin in (str, int, float, bool):
            plain: Value = origin()
            return plain
    return None


LOOKS = defaultdict(Looks, aws=AWS)  # by package; the others get everything by rule
