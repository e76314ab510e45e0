"""GCP, as one of its machines sees it: metadata server, instance group managers, Secret Manager.

The metadata server tells that a machine is taken, not when: the deadline is counted from the first
time that this was read. Not covered: regional groups, `upcoming-maintenance` of reserved capacity,
and faults that the cloud finds only after it has taken an order.
"""

import base64
import binascii
import re
from datetime import datetime, timedelta
from urllib.parse import urlencode

from pydantic import Field, SecretStr, ValidationError

from runtime.clouds.cloud import REAL, Identity, Notice, NoticeKind, Surroundings, notice_until
from runtime.clouds.expiring import Expiring
from runtime.clouds.orders import Answer, Meaning, Order, Understood, carry_out
from runtime.clouds.wire import Reply, Request, send
from runtime.errors import Corrupt, Refused, Unavailable
from runtime.limits import METADATA_S, NOTICE_S_MIN
from runtime.node_spec import GcpPlace

METADATA_URL = "http://169.254.169.254"  # not its name: that would ask for a working resolver
COMPUTE_URL = "https://compute.googleapis.com/compute/v1"
SECRETS_URL = "https://secretmanager.googleapis.com/v1"
FLAVOR = {"metadata-flavor": "Google"}
TERMINATES = "TERMINATE_ON_HOST_MAINTENANCE"  # what machines with GPUs get: they can't migrate
MAINTENANCE = {"NONE", "MIGRATE_ON_HOST_MAINTENANCE", TERMINATES}
MAINTENANCE_S = 60.0  # at least this from maintenance-event to the stop (read 2026-11)
REFERENCE = re.compile(r"projects/[a-z0-9:.-]+/secrets/[\w-]+(/versions/\w+)?")
LIMITED = {"rateLimitExceeded", "userRateLimitExceeded"}  # told with status 403


class _Token(Answer):
    access_token: SecretStr
    expires_in: int = Field(ge=0, le=1 << 30)


class _Payload(Answer):
    data: SecretStr


class _Secret(Answer):
    payload: _Payload


class _Detail(Answer):
    reason: str = ""
    code: str = ""
    message: str = ""


class _Fault(Answer):
    message: str = ""
    status: str = ""
    errors: tuple[_Detail, ...] = ()


class _Faulty(Answer):
    error: _Fault | None = None


class GcpCloud:
    """Client of the services of one project, and of the machine's own metadata."""

    def __init__(
        self,
        place: GcpPlace,
        *,
        metadata_url: str = METADATA_URL,
        compute_url: str = COMPUTE_URL,
        secrets_url: str = SECRETS_URL,
        around: Surroundings = REAL,
    ) -> None:
        self._place = place
        self._around = around
        self._metadata_url = metadata_url
        self._compute_url = compute_url
        self._secrets_url = secrets_url
        self._token = Expiring(self._fetch_token, around.now)
        self._preempted_tag = ""  # the server's mark of the value that was read last
        self._deadlines: dict[NoticeKind, datetime] = {}

    def notice(self, wait_s: float = 0.0) -> Notice | None:
        """Of a preemption, held up to `wait_s`; or of a maintenance that stops the machine."""
        event = self._metadata("instance/maintenance-event").text().strip()
        if event not in MAINTENANCE:
            raise Unavailable("metadata: maintenance-event: found a value that is none")
        if event == TERMINATES:
            return self._counted("maintenance", MAINTENANCE_S, event)
        self._deadlines.pop("maintenance", None)
        if self._is_preempted(wait_s):
            return self._counted("reclaim", NOTICE_S_MIN, "preempted")
        self._deadlines.pop("reclaim", None)
        return None

    def release(self, notice: Notice) -> None:
        """Nothing to tell: a preempted machine goes at its time."""

    def set_size(self, size: int) -> None:
        """Resize the managed instance group."""
        place = self._place
        path = f"projects/{place.project}/zones/{place.zone}/instanceGroupManagers/{place.group}"
        self._carry_out(
            f"instance group {place.group}: size {size}",
            f"the group must be in {place.zone} of {place.project}, within its quota, and the "
            "node's account needs compute.instanceGroupManagers.update",
            "POST",
            f"{self._compute_url}/{path}/resize?{urlencode({'size': size})}",
        )

    def secret(self, reference: str) -> SecretStr:
        """A version of a secret, by its resource name; the latest if it names none."""
        if not REFERENCE.fullmatch(reference):
            raise Refused(
                f"secret: found {reference!r}; allowed projects/P/secrets/S or …/versions/V"
            )
        whole = reference if "/versions/" in reference else f"{reference}/versions/latest"
        reply = self._carry_out(
            f"secret {reference}",
            "it must have an enabled version, and the node's account needs "
            "secretmanager.versions.access on it",
            "GET",
            f"{self._secrets_url}/{whole}:access",
        )
        return _secret(reference, reply)

    def identity(self) -> Identity:
        """From the metadata server."""
        instance = self._metadata("instance/id").text().strip()
        zone = self._metadata("instance/zone").text().strip().rpartition("/")[2]
        if not instance.isdigit() or "-" not in zone:
            raise Unavailable("metadata: found no instance id and zone")
        return Identity(instance=instance, region=zone.rpartition("-")[0], zone=zone)

    def _is_preempted(self, wait_s: float) -> bool:
        query = ""
        if wait_s and self._preempted_tag:
            # By the mark, since a change between two questions would else be waited for in vain.
            seconds = max(int(wait_s), 1)
            waiting = {"wait_for_change": "true", "timeout_sec": seconds}
            query = "?" + urlencode({**waiting, "last_etag": self._preempted_tag})
        reply = self._metadata(f"instance/preempted{query}", within_s=METADATA_S + wait_s)
        value = reply.text().strip()
        if value not in ("TRUE", "FALSE"):
            raise Unavailable("metadata: preempted: found a value that is none")
        self._preempted_tag = reply.headers.get("etag", "")
        return value == "TRUE"

    def _counted(self, kind: NoticeKind, seconds: float, why: str) -> Notice:
        now = self._around.now()
        deadline = self._deadlines.setdefault(kind, now + timedelta(seconds=seconds))
        return notice_until(kind, (deadline - now).total_seconds(), now, why=why)

    def _metadata(self, path: str, within_s: float = METADATA_S) -> Reply:
        request = Request(
            method="GET", url=f"{self._metadata_url}/computeMetadata/v1/{path}", headers=FLAVOR
        )
        reply = send(request, within_s=within_s)
        if reply.headers.get("metadata-flavor") != "Google":
            raise Unavailable("metadata: who answered is not the metadata server")
        if not reply.is_good:
            raise Unavailable(f"metadata: {path.partition('?')[0]}: found status {reply.status}")
        return reply

    def _fetch_token(self) -> tuple[SecretStr, datetime]:
        asked = self._around.now()
        reply = self._metadata("instance/service-accounts/default/token")
        try:
            found = _Token.model_validate_json(reply.body)
        except ValidationError:
            raise Unavailable("metadata: found no token of the default account") from None
        return found.access_token, asked + timedelta(seconds=found.expires_in)

    def _carry_out(self, what: str, do: str, method: str, url: str) -> Reply:
        def request() -> Request:
            headers = {"authorization": f"Bearer {self._token.get().get_secret_value()}"}
            if method == "POST":
                headers["content-length"] = "0"  # its front end refuses a POST without one
            return Request(method=method, url=url, headers=headers)

        order = Order(
            what=what,
            do=do,
            is_read=method == "GET",
            request=request,
            understand=understand,
            forget_token=self._token.forget,
        )
        return carry_out(order, self._around)


def understand(reply: Reply) -> Understood:
    """What an answer of a Google API means. An operation may be taken and yet hold its fault."""
    try:
        fault = _Faulty.model_validate_json(reply.body).error
    except ValidationError:
        fault = None
    if reply.is_good and fault is None:
        return Understood(meaning=Meaning.DONE)
    details = fault.errors if fault else ()
    reason = next((d.reason or d.code for d in details), fault.status if fault else "")
    message = (fault.message if fault else "") or next((d.message for d in details), "")
    words = f"{reason or f'status {reply.status}'}: {message}"
    if reason in LIMITED or reply.status == 429 or reply.status >= 500:
        return Understood(meaning=Meaning.AGAIN, words=words)
    if reply.status == 401:
        return Understood(meaning=Meaning.STALE, words=words)
    if reply.status == 404:
        return Understood(meaning=Meaning.MISSING, words=words)
    return Understood(meaning=Meaning.REFUSED, words=words)


def _secret(reference: str, reply: Reply) -> SecretStr:
    try:
        found = _Secret.model_validate_json(reply.body)
        whole = base64.b64decode(found.payload.data.get_secret_value(), validate=True)
        return SecretStr(whole.decode())
    except (ValidationError, binascii.Error, UnicodeDecodeError):
        pass  # raised below, so that what was read is not in the exception's context
    raise Corrupt(f"secret {reference}: found no text in the answer; store it as text")
