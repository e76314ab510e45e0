"""Azure, as one of its machines sees it: metadata, Scheduled Events, scale sets, Key Vault.

Not covered: sovereign clouds (other addresses), and machines outside a virtual network.
"""

import logging
import re
from datetime import UTC, datetime
from urllib.parse import urlencode

from pydantic import Field, SecretStr, ValidationError

from runtime.clouds.cloud import REAL, Identity, Notice, NoticeKind, Surroundings, notice_until
from runtime.clouds.expiring import Expiring
from runtime.clouds.orders import Answer, Meaning, Order, Understood, carry_out
from runtime.clouds.wire import Reply, Request, http_time, send
from runtime.errors import Corrupt, Refused, Unavailable
from runtime.limits import METADATA_S
from runtime.node_spec import AzurePlace

METADATA_URL = "http://169.254.169.254"
MANAGEMENT_URL = "https://management.azure.com"
VAULT_URL = "https://{vault}.vault.azure.net"
VAULT_AUDIENCE = "https://vault.azure.net"
EVENTS = "scheduledevents?api-version=2020-07-01"
INSTANCE = "instance/compute?api-version=2021-02-01"
IDENTITY_VERSION = "2018-02-01"
SCALE_SETS_VERSION = "2024-11-01"
VAULT_VERSION = "7.4"
EXPIRES_MAX = 1 << 36  # seconds since 1970: beyond it `datetime` ends
# Freeze is none: the machine pauses for seconds and goes on.
KINDS: dict[str, NoticeKind] = {
    "Preempt": "reclaim",
    "Terminate": "reclaim",
    "Reboot": "maintenance",
    "Redeploy": "maintenance",
}
REFERENCE = re.compile(r"(?P<vault>[A-Za-z0-9-]{3,24})/(?P<name>[A-Za-z0-9-]+(/[0-9a-f]+)?)")
AGAIN = {  # told with status 409
    *("Conflict", "OperationPreempted", "AnotherOperationInProgress", "RetryableError"),
}
MISSING = {"SecretNotFound"}

log = logging.getLogger(__name__)


class _Event(Answer):
    event: str = Field(alias="EventId")
    kind: str = Field(alias="EventType")
    resources: tuple[str, ...] = Field(alias="Resources")
    status: str = Field(alias="EventStatus")
    not_before: str = Field(default="", alias="NotBefore")  # empty once it has started
    description: str = Field(default="", alias="Description")


class _Events(Answer):
    events: tuple[_Event, ...] = Field(alias="Events")


class _Compute(Answer):
    name: str = Field(min_length=1)  # as Scheduled Events call this machine
    instance: str = Field(alias="vmId")
    region: str = Field(alias="location")
    zone: str = ""


class _Token(Answer):
    access_token: SecretStr
    expires_on: int = Field(ge=0, le=EXPIRES_MAX)


class _Sku(Answer):
    name: str
    tier: str | None = None
    capacity: int


class _ScaleSet(Answer):
    sku: _Sku


class _Secret(Answer):
    value: SecretStr


class _Fault(Answer):
    code: str = ""
    message: str = ""


class _Faulty(Answer):
    error: _Fault


class _StartRequest(Answer):
    EventId: str


class _StartRequests(Answer):
    StartRequests: tuple[_StartRequest, ...]


class AzureCloud:
    """Client of the services of one subscription, and of the machine's own metadata."""

    def __init__(
        self,
        place: AzurePlace,
        *,
        metadata_url: str = METADATA_URL,
        management_url: str = MANAGEMENT_URL,
        vault_url: str = VAULT_URL,  # with {vault} in it
        around: Surroundings = REAL,
    ) -> None:
        self._place = place
        self._around = around
        self._metadata_url = metadata_url
        self._management_url = management_url
        self._vault_url = vault_url
        self._management = Expiring(lambda: self._fetch_token(MANAGEMENT_URL + "/"), around.now)
        self._vault = Expiring(lambda: self._fetch_token(VAULT_AUDIENCE), around.now)
        self._compute: _Compute | None = None  # asked once: a machine keeps its name

    def notice(self, wait_s: float = 0.0) -> Notice | None:
        """The event of this machine that comes first; others' events are told here too."""
        reply, events = self._events()
        notices = [n for event in events if (n := self._read(event, reply)) is not None]
        return min(notices, key=lambda notice: notice.left_s, default=None)

    def release(self, notice: Notice) -> None:
        """Let the event start, unless it would take other machines along that are not ready."""
        _, events = self._events()
        for event in events:
            if event.event != notice.event or event.status != "Scheduled":
                continue
            if any(not self._is_me(name) for name in event.resources):
                log.info("event %s names other machines too: it runs out by itself", event.event)
                continue
            asked = _StartRequests(StartRequests=(_StartRequest(EventId=event.event),))
            self._metadata("POST", EVENTS, asked.model_dump_json().encode())

    def set_size(self, size: int) -> None:
        """Set the capacity of the scale set, and nothing else of it."""
        place = self._place
        url = (
            f"{self._management_url}/subscriptions/{place.subscription}"
            f"/resourceGroups/{place.resource_group}/providers/Microsoft.Compute"
            f"/virtualMachineScaleSets/{place.scale_set}?api-version={SCALE_SETS_VERSION}"
        )
        what = f"scale set {place.scale_set}: size {size}"
        do = (
            f"it must be in resource group {place.resource_group}, within its quota, and the "
            "node's identity needs Microsoft.Compute/virtualMachineScaleSets/read and write"
        )
        reply = self._carry_out(what, do, self._management, "GET", url)
        try:
            sku = _ScaleSet.model_validate_json(reply.body).sku
        except ValidationError:
            raise Unavailable(f"{what}: found no size in the cloud's answer") from None
        if sku.capacity == size:
            return
        # The machine type with it, since a part of a `sku` is not a `sku`.
        wanted = _ScaleSet(sku=_Sku(name=sku.name, tier=sku.tier, capacity=size))
        body = wanted.model_dump_json(exclude_none=True).encode()
        self._carry_out(what, do, self._management, "PATCH", url, body)

    def secret(self, reference: str) -> SecretStr:
        """The current version of a secret, or the one named: VAULT/NAME or VAULT/NAME/VERSION."""
        parts = REFERENCE.fullmatch(reference)
        if parts is None:
            raise Refused(f"secret: found {reference!r}; allowed VAULT/NAME or VAULT/NAME/VERSION")
        vault_url = self._vault_url.format(vault=parts["vault"])
        reply = self._carry_out(
            f"secret {reference}",
            "it must be enabled, and the node's identity needs the role Key Vault Secrets User",
            self._vault,
            "GET",
            f"{vault_url}/secrets/{parts['name']}?api-version={VAULT_VERSION}",
        )
        try:
            return _Secret.model_validate_json(reply.body).value
        except ValidationError:
            pass  # raised below, so that what was read is not in the exception's context
        raise Corrupt(f"secret {reference}: found no value in the answer")

    def identity(self) -> Identity:
        """From the instance metadata."""
        me = self._me()
        return Identity(instance=me.instance, region=me.region, zone=me.zone)

    def _read(self, event: _Event, reply: Reply) -> Notice | None:
        """What an event means for this machine; None if nothing."""
        kind = KINDS.get(event.kind)
        if kind is None or not any(self._is_me(name) for name in event.resources):
            return None
        # One that has rebooted still sees the event for minutes, and must not leave again.
        if kind == "maintenance" and event.status != "Scheduled":
            return None
        left_s = 0.0  # no time is told once it has started
        if event.not_before:
            starts = http_time(event.not_before)
            if starts is None:
                raise Unavailable("metadata: scheduledevents: found a time that is none")
            left_s = (starts - (reply.at or self._around.now())).total_seconds()
        why = f"{event.kind} {event.description}".strip()
        return notice_until(kind, left_s, self._around.now(), why=why, event=event.event)

    def _is_me(self, name: str) -> bool:
        return name.casefold() == self._me().name.casefold()

    def _me(self) -> _Compute:
        if self._compute is None:
            reply = self._metadata("GET", INSTANCE)
            try:
                self._compute = _Compute.model_validate_json(reply.body)
            except ValidationError:
                raise Unavailable("metadata: found no name of this machine") from None
        return self._compute

    def _events(self) -> tuple[Reply, tuple[_Event, ...]]:
        # The first question ever switches the service on and may hang for two minutes: this one
        # gives up, and the next ones find it on.
        reply = self._metadata("GET", EVENTS)
        try:
            return reply, _Events.model_validate_json(reply.body).events
        except ValidationError:
            raise Unavailable("metadata: scheduledevents: found no list of events") from None

    def _metadata(self, method: str, path: str, body: bytes = b"") -> Reply:
        request = Request(
            method=method,
            url=f"{self._metadata_url}/metadata/{path}",
            headers={"metadata": "true"},
            body=body,
        )
        reply = send(request, within_s=METADATA_S)
        if not reply.is_good:
            raise Unavailable(f"metadata: {path.partition('?')[0]}: found status {reply.status}")
        return reply

    def _fetch_token(self, audience: str) -> tuple[SecretStr, datetime]:
        query = {"api-version": IDENTITY_VERSION, "resource": audience}
        if self._place.client_id is not None:
            query["client_id"] = self._place.client_id
        reply = self._metadata("GET", f"identity/oauth2/token?{urlencode(query)}")
        try:
            found = _Token.model_validate_json(reply.body)
        except ValidationError:
            raise Unavailable(f"metadata: found no token for {audience}") from None
        return found.access_token, datetime.fromtimestamp(found.expires_on, UTC)

    def _carry_out(
        self,
        what: str,
        do: str,
        token: Expiring[SecretStr],
        method: str,
        url: str,
        body: bytes = b"",
    ) -> Reply:
        def request() -> Request:
            headers = {"authorization": f"Bearer {token.get().get_secret_value()}"}
            if body:
                headers["content-type"] = "application/json"
            return Request(method=method, url=url, headers=headers, body=body)

        order = Order(
            what=what,
            do=do,
            is_read=method == "GET",
            request=request,
            understand=understand,
            forget_token=token.forget,
        )
        return carry_out(order, self._around)


def understand(reply: Reply) -> Understood:
    """What an answer of Azure's management or vault means."""
    if reply.is_good:
        return Understood(meaning=Meaning.DONE)
    try:
        fault = _Faulty.model_validate_json(reply.body).error
    except ValidationError:
        fault = _Fault(message="an answer that is none")
    words = f"{fault.code or f'status {reply.status}'}: {fault.message}"
    if fault.code in AGAIN or reply.status == 429 or reply.status >= 500:
        return Understood(meaning=Meaning.AGAIN, words=words)
    if reply.status == 401:
        return Understood(meaning=Meaning.STALE, words=words)
    if fault.code in MISSING:
        return Understood(meaning=Meaning.MISSING, words=words)
    return Understood(meaning=Meaning.REFUSED, words=words)
