"""Inputs of resources as rules read them: plain values, by the names that they have on the wire."""

from collections.abc import Mapping, Sequence

Properties = Mapping[str, object]


class Unknown:
    """What a preview can't know yet; the rules are asked again when `up` does."""


UNKNOWN = Unknown()


def at(value: object, *path: str) -> object:
    """What lies under these names: None where there is nothing, UNKNOWN under what is unknown."""
    for name in path:
        if value is UNKNOWN:
            return UNKNOWN
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def items(value: object) -> Sequence[object]:
    """Of a list; nothing of what is none."""
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def texts(value: object) -> Sequence[str]:
    """Of a list of texts, or of one text in its place, as IAM has them."""
    return [value] if isinstance(value, str) else [i for i in items(value) if isinstance(i, str)]


def may_be(value: object, *wanted: object) -> bool:
    """Whether it is one of these, or not known yet."""
    return value is UNKNOWN or value in wanted


def is_on(value: object) -> bool:
    """Whether a switch is on for sure; some of them are texts."""
    return value is True or value == "true"
