"""CloudWatch Logs, as what takes a node's lines: one stream for each start of the node.

Source: CloudWatch Logs API reference, "CreateLogStream" and "PutLogEvents" (read 2026-11): batches
may come twice and from several at once, and a sequence token is not heeded any more. Its limit of
an event is told as 256 KB or 1 MB; the smaller one is kept.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from operator import attrgetter

from pydantic import ValidationError

from runtime.clouds.aws import JSON, AwsCloud, fault_of, understand
from runtime.clouds.log_lines import LogLine
from runtime.clouds.orders import Answer, Meaning, Understood
from runtime.clouds.wire import Reply, send
from runtime.errors import AtollError, Corrupt, Refused, Unavailable
from runtime.limits import LOG_LINE_BYTES_MAX

TARGET = "Logs_20140328."
BATCH_BYTES_MAX = 1 << 20  # each event counted with its overhead
EVENT_OVERHEAD_BYTES = 26
EVENT_BYTES_MAX = 256 << 10
BATCH_EVENTS_MAX = 10_000
BATCH_SPAN_MS_MAX = 24 * 3600 * 1000
THERE = {"ResourceAlreadyExistsException"}  # of a stream
TAKEN = {"DataAlreadyAcceptedException"}  # as it said once
NEVER = {"InvalidParameterException", "SerializationException", "ValidationException"}

assert LOG_LINE_BYTES_MAX + EVENT_OVERHEAD_BYTES <= EVENT_BYTES_MAX <= BATCH_BYTES_MAX

log = logging.getLogger(__name__)


class _Rejected(Answer):
    rejectedLogEventsInfo: Mapping[str, int | None] | None = None  # noqa: N815 as AWS has it


class AwsLogs:
    """One stream of a log group, which must be there: nodes may not make any."""

    def __init__(self, cloud: AwsCloud, group: str, stream: str) -> None:
        self._cloud = cloud
        self._group = group
        self._stream = stream
        self._has_stream = False
        self._is_time_told = False

    def batches(self, lines: Sequence[LogLine]) -> list[list[LogLine]]:
        """See `batches`."""
        return batches(lines)

    def send(self, batch: Sequence[LogLine], within_s: float) -> None:
        """See `Sink.send`."""
        if not self._has_stream:
            self._make_stream(within_s)
        events = [{"timestamp": line.at_ms, "message": line.text} for line in batch]
        reply, understood = self._ask("PutLogEvents", {"logEvents": events}, within_s)
        code, _ = fault_of(reply)
        if understood.meaning is Meaning.DONE:
            self._look_at_times(reply)
        elif code not in TAKEN:
            self._has_stream = understood.meaning is not Meaning.MISSING
            if code in NEVER:
                raise Corrupt(f"log group {self._group}: {understood.words}")
            raise self._fault(understood)

    def _make_stream(self, within_s: float) -> None:
        reply, understood = self._ask("CreateLogStream", {}, within_s)
        if understood.meaning is not Meaning.DONE and fault_of(reply)[0] not in THERE:
            raise self._fault(understood)
        self._has_stream = True

    def _ask(
        self, action: str, more: Mapping[str, object], within_s: float
    ) -> tuple[Reply, Understood]:
        """Once; and once more with new credentials if the old ones are over."""
        fields = {"logGroupName": self._group, "logStreamName": self._stream, **more}
        headers = {"content-type": JSON, "x-amz-target": TARGET + action}
        body = json.dumps(fields, ensure_ascii=False).encode()
        reply = send(self._cloud.signed("logs", headers, body), within_s=within_s)
        if understand(reply).meaning is Meaning.STALE:
            self._cloud.forget_credentials()
            reply = send(self._cloud.signed("logs", headers, body), within_s=within_s)
        return reply, understand(reply)

    def _fault(self, understood: Understood) -> AtollError:
        words = f"log group {self._group}: {understood.words}"
        if understood.meaning is Meaning.AGAIN:
            return Unavailable(words)
        return Refused(
            f"{words}; the group must be there, and the node's role needs logs:CreateLogStream "
            "and logs:PutLogEvents in it"
        )

    def _look_at_times(self, reply: Reply) -> None:
        """AWS leaves out lines of more than 2 h ahead or 14 days ago, and takes the others."""
        try:
            rejected = _Rejected.model_validate_json(reply.body or b"{}").rejectedLogEventsInfo
        except ValidationError:
            return
        if rejected and not self._is_time_told:
            self._is_time_told = True
            log.warning("CloudWatch Logs leaves out lines for their time; is this clock right?")


def batches(lines: Sequence[LogLine]) -> list[list[LogLine]]:
    """All lines by their time, in no more batches than AWS's limits ask for. Pure."""
    cut: list[list[LogLine]] = []
    size_bytes = 0
    for line in sorted(lines, key=attrgetter("at_ms")):
        more_bytes = line.size_bytes + EVENT_OVERHEAD_BYTES
        if (
            not cut
            or len(cut[-1]) == BATCH_EVENTS_MAX
            or size_bytes + more_bytes > BATCH_BYTES_MAX
            or line.at_ms - cut[-1][0].at_ms >= BATCH_SPAN_MS_MAX
        ):
            cut.append([])
            size_bytes = 0
        cut[-1].append(line)
        size_bytes += more_bytes
    return cut
