"""The untyped edge: boto3 is asked here and nowhere else, and its answers leave as rows.

A JMESPath beside each call says what is cut out of its answer. Attempts and waits of one call are
botocore's, with limits named here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import TypeVar

import boto3  # type: ignore[import-untyped]
import jmespath  # type: ignore[import-untyped]
from botocore.client import BaseClient  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, field_validator

from infra.clouds.aws.sweeping.faults import told

ATTEMPTS = 4
CONNECT_S, READ_S = 10, 60

Answer = Mapping[str, object]
ShapeT = TypeVar("ShapeT", bound=BaseModel)


class Row(BaseModel):
    """One thing as a list of AWS tells it. None: that list does not say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str | None = None  # for people
    arn: str | None = None
    tags: Mapping[str, str] = Field(default_factory=dict)
    state: str | None = None
    type: str | None = None  # by which its price list tells it from others
    count: int | None = None  # GiB of a disk, zones of an endpoint
    holder: str | None = None  # what it stands in
    until: datetime | None = None  # then AWS deletes it by itself

    @field_validator("tags", mode="before")
    @classmethod
    def _pairs(cls, tags: Sequence[Mapping[str, str]] | Mapping[str, str] | None) -> object:
        """AWS lists tags as pairs of Key and Value, or has none."""
        if tags is None or isinstance(tags, Mapping):
            return tags or {}
        return {pair["Key"]: pair.get("Value", "") for pair in tags}


class Api:
    """Asks AWS in one region."""

    def __init__(self, session: boto3.Session, region: str) -> None:
        self.region = region
        self._session = session
        self._clients: dict[str, BaseClient] = {}

    def rows(self, service: str, operation: str, cut: str, **parameters: object) -> list[Row]:
        """All that a call lists, on all pages, each as the JMESPath cuts it out."""
        return self._rows(Row, service, operation, cut, parameters, pages=None)

    def shapes(
        self, shape: type[ShapeT], service: str, operation: str, cut: str, **parameters: object
    ) -> list[ShapeT]:
        """The same, in a shape of the asker's own."""
        return self._rows(shape, service, operation, cut, parameters, pages=None)

    def first_shapes(
        self, shape: type[ShapeT], service: str, operation: str, cut: str, **parameters: object
    ) -> list[ShapeT]:
        """Those of its first page."""
        return self._rows(shape, service, operation, cut, parameters, pages=1)

    def first_rows(self, service: str, operation: str, cut: str, **parameters: object) -> list[Row]:
        """Those of its first page: for what is asked again once they are gone."""
        return self._rows(Row, service, operation, cut, parameters, pages=1)

    def do(self, service: str, operation: str, **parameters: object) -> None:
        """A call of which only the refusal counts."""
        with told(service, self.region):
            self._call(service, operation)(**parameters)

    def account(self) -> str:
        """Whose credentials these are."""
        [row] = self.rows("sts", "get_caller_identity", "[{id: Account}]")
        return row.id

    def _rows(
        self,
        shape: type[ShapeT],
        service: str,
        operation: str,
        cut: str,
        parameters: Mapping[str, object],
        pages: int | None,
    ) -> list[ShapeT]:
        path = jmespath.compile(cut)
        with told(service, self.region):
            answers = islice(self._pages(service, operation, parameters), pages)
            cuts = [path.search(answer) or () for answer in answers]
        return [shape.model_validate(row) for rows in cuts for row in rows]

    def _pages(
        self, service: str, operation: str, parameters: Mapping[str, object]
    ) -> Iterable[Answer]:
        """Ends: botocore refuses to be sent to the same page twice."""
        client = self._client(service)
        if client.can_paginate(operation):
            pages: Iterable[Answer] = client.get_paginator(operation).paginate(**parameters)
            return pages
        return [self._call(service, operation)(**parameters)]

    def _call(self, service: str, operation: str) -> Callable[..., Answer]:
        call: Callable[..., Answer] = getattr(self._client(service), operation)
        return call

    def _client(self, service: str) -> BaseClient:
        if service not in self._clients:
            self._clients[service] = self._session.client(
                service,
                region_name=self.region,
                config=Config(
                    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                    connect_timeout=CONNECT_S,
                    read_timeout=READ_S,
                ),
            )
        return self._clients[service]
