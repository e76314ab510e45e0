"""CloudWatch Logs for one node: a group that is there, streams that are made, strict batches.

Shapes and limits: CloudWatch Logs API reference, "CreateLogStream" and "PutLogEvents", read
2026-11. The smaller of the two limits of an event is checked, as long as AWS tells both.
"""

import json
import threading
from datetime import datetime, timedelta

from tests.doubles.cloud_server import Asked

TARGET = "Logs_20140328."
GROUP = "/atoll/5e1f"
AHEAD_MAX, AGO_MAX, SPAN_MAX = timedelta(hours=2), timedelta(days=14), timedelta(days=1)

Said = tuple[str, object]  # the code of a fault, or none; then its words, or the answer


class FakeLogs:
    """Holds what it has taken, by stream and in the order in which it came."""

    def __init__(self) -> None:
        self.has_group = True
        self.streams: dict[str, list[str]] = {}
        self.requests: list[str] = []  # actions, those that it refused too
        self.refusals: list[str] = []  # codes for the requests to come
        self.is_taken = threading.Event()  # the first batch
        self.says_twice = 0  # as many batches are taken, and said to have been taken before

    @property
    def texts(self) -> list[str]:
        """Of all streams."""
        return [text for texts in self.streams.values() for text in texts]

    def answer(self, asked: Asked, now: datetime) -> Said:
        """To a request whose signature is good."""
        action = asked.headers["x-amz-target"].removeprefix(TARGET)
        assert asked.headers["content-type"] == "application/x-amz-json-1.1"
        fields = json.loads(asked.body)
        self.requests.append(action)
        if self.refusals:
            return self.refusals.pop(0), "as the test has it"
        group, stream = fields.pop("logGroupName"), fields.pop("logStreamName")
        assert 1 <= len(stream) <= 512
        assert not {":", "*"} & set(stream)
        if group != GROUP or not self.has_group:
            return "ResourceNotFoundException", "The specified log group does not exist."
        if action == "CreateLogStream":
            return self._make(stream, fields)
        assert action == "PutLogEvents"
        if stream not in self.streams:
            return "ResourceNotFoundException", "The specified log stream does not exist."
        return self._put(stream, fields.pop("logEvents"), fields, now)

    def _make(self, stream: str, more: dict[str, object]) -> Said:
        assert more == {}
        if stream in self.streams:
            return "ResourceAlreadyExistsException", "The specified log stream already exists"
        self.streams[stream] = []
        return "", ""

    def _put(
        self, stream: str, events: list[dict[str, object]], more: dict[str, object], now: datetime
    ) -> Said:
        assert more == {}
        fault = _fault(events)
        if fault:
            return "InvalidParameterException", fault
        at = [_at(event, now) for event in events]
        self.streams[stream] += [
            str(event["message"])
            for event, moment in zip(events, at, strict=True)
            if now - AGO_MAX <= moment <= now + AHEAD_MAX
        ]
        self.is_taken.set()
        if self.says_twice:
            self.says_twice -= 1
            return "DataAlreadyAcceptedException", "The given batch has already been accepted"
        return "", _rejected(at, now)


def _fault(events: list[dict[str, object]]) -> str:
    times, sizes = [], []
    for event in events:
        assert set(event) == {"timestamp", "message"}
        at, text = event["timestamp"], event["message"]
        assert isinstance(at, int)
        assert isinstance(text, str)
        times.append(at)
        sizes.append(len(text.encode()) + 26)
    if not 1 <= len(events) <= 10_000:
        return f"{len(events)} events"
    if min(sizes) == 26 or max(sizes) > 262_144:
        return "Member must have length between 1 and 262144"
    if sum(sizes) > 1_048_576:
        return "Upload too large"
    if times != sorted(times):
        return "Log events in a single PutLogEvents request must be in chronological order."
    if times[-1] - times[0] > SPAN_MAX.total_seconds() * 1000:
        return "The batch of log events in a single PutLogEvents request cannot span more than 24 h"
    return ""


def _at(event: dict[str, object], now: datetime) -> datetime:
    at = event["timestamp"]
    assert isinstance(at, int)
    return datetime.fromtimestamp(at / 1000, now.tzinfo)


def _rejected(at: list[datetime], now: datetime) -> object:
    told: dict[str, int] = {}
    ahead = [index for index, moment in enumerate(at) if moment > now + AHEAD_MAX]
    ago = [index for index, moment in enumerate(at) if moment < now - AGO_MAX]
    if ahead:
        told["tooNewLogEventStartIndex"] = ahead[0]
    if ago:
        told["tooOldLogEventEndIndex"] = ago[-1]
    return {"nextSequenceToken": "4957", **({"rejectedLogEventsInfo": told} if told else {})}
