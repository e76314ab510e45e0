"""Answers in the place of moto: refusals, delays, and the one kind of thing that it lacks."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Protocol

import boto3  # type: ignore[import-untyped]

Said = Mapping[str, object]
Answer = Callable[[Mapping[str, object]], Said | None]  # None: moto is asked
Change = Callable[[dict[str, list[object]]], object]


class Model(Protocol):
    """What botocore tells of a call."""

    name: str
    service_model: SimpleNamespace


class Interceptor:
    """Stands before a session's clients; calls are named `ec2.DescribeVpcs`."""

    def __init__(self, session: boto3.Session) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, Answer] = {}
        self.changes: dict[str, Change] = {}
        self._events = session.events
        self._events.register("before-call", self._before)
        self._events.register("after-call", self._after)

    def refuse(self, call: str, code: str, times: int | None = None, status: int = 400) -> None:
        """Always, or the first times."""
        left = iter(range(times)) if times is not None else None

        def answer(_: Mapping[str, object]) -> Said | None:
            if left is not None and next(left, None) is None:
                return None
            return {
                "Error": {"Code": code, "Message": "said AWS"},
                "ResponseMetadata": {"HTTPStatusCode": status},
            }

        self.answers[call] = answer

    def ask_with(self, call: str, **more: object) -> None:
        """Pages of another size: by the service's own name."""

        def add(params: Mapping[str, object], **_: object) -> Mapping[str, object]:
            return {**params, **more}

        self._events.register(f"provide-client-params.{call}", add)

    def count(self, call: str) -> int:
        """How often it was asked."""
        return self.asked.count(call)

    def _before(self, model: Model, params: Mapping[str, object], **_: object) -> object:
        call = f"{model.service_model.service_name}.{model.name}"
        self.asked.append(call)
        answer = self.answers.get(call)
        said = None if answer is None else answer(params)
        return None if said is None else (SimpleNamespace(status_code=_status(said)), dict(said))

    def _after(self, model: Model, parsed: dict[str, list[object]], **_: object) -> None:
        change = self.changes.get(f"{model.service_model.service_name}.{model.name}")
        if change is not None:
            change(parsed)


@dataclass
class PlacementGroups:
    """moto has none: the name of each, and its tags."""

    interceptor: Interceptor
    tags: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.interceptor.answers["ec2.DescribePlacementGroups"] = self._describe
        self.interceptor.answers["ec2.DeletePlacementGroup"] = self._delete

    def _describe(self, params: Mapping[str, object]) -> Said:
        key, value = (_asked(params)[f"Filter.1.{part}"] for part in ("Name", "Value.1"))
        return {
            "PlacementGroups": [
                {"GroupName": name, "State": "available", "Tags": pairs(tags)}
                for name, tags in self.tags.items()
                if tags.get(key.removeprefix("tag:")) == value
            ]
        }

    def _delete(self, params: Mapping[str, object]) -> Said:
        del self.tags[_asked(params)["GroupName"]]
        return {}


def never(seconds: float) -> None:
    """Nobody has to wait: moto deletes at once."""
    raise AssertionError(f"waits {seconds} s")


def hit(*arns: str, tags: Mapping[str, str]) -> Iterable[Mapping[str, object]]:
    """As the tagging API names things."""
    return [{"ResourceARN": arn, "Tags": pairs(tags)} for arn in arns]


def pairs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """As AWS writes tags."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _asked(params: Mapping[str, object]) -> Mapping[str, str]:
    body = params["body"]
    assert isinstance(body, dict)
    return body


def _status(said: Said) -> int:
    told = said.get("ResponseMetadata")
    return int(told["HTTPStatusCode"]) if isinstance(told, dict) else 200
