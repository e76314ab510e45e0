"""Property values between gRPC structs and plain Python: secrets and unknowns.

Pulumi marks a secret as a struct with a signature key and an unknown as one agreed string
(pulumi/pulumi, sdk/go/common/resource/properties.go). Numbers are doubles on the wire.
"""

from collections.abc import Mapping
from typing import TypeAlias

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"
Properties: TypeAlias = dict[str, Value]

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105  the marker of secrets, not one
OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"


def read(struct: Struct) -> Properties:
    """Plain values: secrets opened, whole doubles as ints, unknowns left as UNKNOWN."""
    plain = {key: _plain(value) for key, value in json_format.MessageToDict(struct).items()}
    return {key: value for key, value in plain.items() if not key.startswith("__")}


def write(properties: Mapping[str, Value], secret: frozenset[str] = frozenset()) -> Struct:
    """A struct in which the named top-level properties are secrets."""
    struct = Struct()
    struct.update(
        {
            key: {SIGNATURE: SECRET, "value": value} if key in secret else value
            for key, value in properties.items()
        }
    )
    return struct


def has_unknown(value: Value) -> bool:
    """Whether something in it will be known only after an update."""
    if isinstance(value, dict):
        return any(has_unknown(v) for v in value.values())
    if isinstance(value, list):
        return any(has_unknown(v) for v in value)
    return value == UNKNOWN


def _plain(value: Value) -> Value:
    if isinstance(value, dict):
        if value.get(SIGNATURE) == SECRET:
            return _plain(value.get("value"))
        if value.get(SIGNATURE) == OUTPUT:
            return _plain(value.get("value", UNKNOWN))
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
