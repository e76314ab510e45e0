"""Azure for one node: metadata, Scheduled Events, a scale set, a vault; tokens by audience.

Shapes: "Scheduled Events for Linux VMs" (azure-compute-docs at 533281db), "Azure Instance Metadata
Service", REST reference "Virtual Machine Scale Sets - Update" 2024-11-01, Key Vault REST reference
"Get Secret" 7.4, "Use managed identities on an Azure VM to acquire a token"; all read 2026-11.
"""

import json
from datetime import timedelta
from email.utils import format_datetime

from runtime.clouds.azure import AzureCloud
from runtime.node_spec import AzurePlace
from tests.doubles.cloud_server import Answered, Asked, FakeServices

PLACE = AzurePlace(
    subscription="00000000-1111-2222-3333-444444444444",
    resource_group="atoll-5e1f",
    scale_set="training",
    client_id="aaaaaaaa-1111-2222-3333-444444444444",
)
SCALE_SET = (
    f"/subscriptions/{PLACE.subscription}/resourceGroups/{PLACE.resource_group}"
    f"/providers/Microsoft.Compute/virtualMachineScaleSets/{PLACE.scale_set}"
)
ME = "training_3"
AUDIENCES = {"https://management.azure.com/": "management", "https://vault.azure.net": "vault"}
HOUR_S = 3600


class FakeAzure(FakeServices):
    """Holds one scale set of at most 4 machines by quota, and secrets."""

    name = "azure"
    forbidden_says = "Microsoft.Compute/virtualMachineScaleSets"
    notice_s_max = 30.0

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, object]] = []
        self.started: list[str] = []  # events that somebody has acknowledged
        self.cloud = AzureCloud(
            PLACE,
            metadata_url=self.metadata.url,
            management_url=self.services.url,
            vault_url=self.services.url + "/vaults/{vault}",
            around=self.clock.around,
        )

    def reclaim(self, left_s: float) -> None:
        """Give notice."""
        self.schedule("Preempt", left_s, ME)

    def schedule(self, kind: str, left_s: float | None, *names: str) -> str:
        """Schedule an event, or start one if no time is left; its id."""
        event = f"602d9444-d2cd-49c7-8624-{len(self.events):012}"
        at = self.clock.at + timedelta(seconds=left_s or 0.0)
        self.events.append(
            {
                "EventId": event,
                "EventType": kind,
                "ResourceType": "VirtualMachine",
                "Resources": list(names),
                "EventStatus": "Started" if left_s is None else "Scheduled",
                "NotBefore": "" if left_s is None else format_datetime(at, usegmt=True),
                "Description": "",
                "EventSource": "Platform",
                "DurationInSeconds": -1,
            }
        )
        return event

    def put_secret(self, value: str) -> str:
        """Keep a secret; its reference."""
        self.secrets["api-key"] = {
            "value": value,
            "id": "https://kit.vault.azure.net/secrets/api-key/9",
        }
        return "kit/api-key"

    def garble_secret(self, value: str) -> str:
        """Keep one whose answer is damaged; its reference."""
        self.secrets["broken"] = {"value": [value]}
        return "kit/broken"

    missing_secret = "kit/nothing"

    def expire_tokens(self) -> None:
        """What was given out so far is refused from now on."""
        self._number += 1

    def _metadata(self, asked: Asked) -> Answered:
        if asked.headers.get("metadata") != "true" or "x-forwarded-for" in asked.headers:
            return Answered(status=400, body={"error": "Bad request"})
        match asked.path.removeprefix("/metadata/"), asked.query.get("api-version"):
            case "scheduledevents", "2020-07-01":
                return self._scheduled(asked)
            case "instance/compute", "2021-02-01":
                return Answered(
                    body={
                        "name": ME,
                        "vmId": "02aab8a4-74ef-476e-8182-f6d2ba4166a6",
                        "location": "westeurope",
                        "zone": "1",
                        "vmScaleSetName": PLACE.scale_set,
                    }
                )
            case "identity/oauth2/token", "2018-02-01":
                return self._token(asked)
        return Answered(status=400, body={"error": "Bad request. api-version is invalid"})

    def _scheduled(self, asked: Asked) -> Answered:
        if asked.method == "POST":
            [request] = json.loads(asked.body)["StartRequests"]
            self.started.append(request["EventId"])
            return Answered()
        return Answered(body={"DocumentIncarnation": len(self.events), "Events": self.events})

    def _token(self, asked: Asked) -> Answered:
        audience = AUDIENCES.get(asked.query.get("resource", ""))
        if audience is None or asked.query.get("client_id") != PLACE.client_id:
            return Answered(status=400, body={"error": "invalid_request"})
        expires = int(self.clock.at.timestamp()) + HOUR_S
        token = f"eyJ0.{audience}-{self._number - self.behind}"
        return Answered(body={"access_token": token, "expires_on": str(expires), "expires_in": "1"})

    def _service(self, asked: Asked) -> Answered:
        audience = "vault" if asked.path.startswith("/vaults/") else "management"
        if asked.headers.get("authorization") != f"Bearer eyJ0.{audience}-{self._number}":
            return _fault(401, "ExpiredAuthenticationToken", "The access token expiry is past.")
        if self.throttled:
            self.throttled -= 1
            retry = {"Retry-After": "3"}
            return _fault(429, "TooManyRequests", "Too many requests", retry)
        if self.is_forbidden:
            return _fault(403, "AuthorizationFailed", "The client does not have authorization")
        return self._secret(asked) if audience == "vault" else self._scale_set(asked)

    def _scale_set(self, asked: Asked) -> Answered:
        assert asked.query == {"api-version": "2024-11-01"}
        if asked.path != SCALE_SET:
            return _fault(404, "ResourceNotFound", "The Resource was not found.")
        sku: dict[str, object] = {"name": "Standard_NC24ads_A100_v4", "tier": "Standard"}
        if asked.method == "PATCH":
            assert asked.headers["content-type"] == "application/json"
            body = json.loads(asked.body)
            size = body["sku"].pop("capacity")
            assert body == {"sku": sku}, "nothing else of it may change"
            if size > 4:
                return _fault(409, "OperationNotAllowed", "exceeding approved Cores quota")
            self.size = size
        else:
            assert (asked.method, asked.body) == ("GET", b"")
        return Answered(body={"name": PLACE.scale_set, "sku": {**sku, "capacity": self.size}})

    def _secret(self, asked: Asked) -> Answered:
        assert (asked.method, asked.query) == ("GET", {"api-version": "7.4"})
        name = asked.path.removeprefix("/vaults/kit/secrets/")
        if name not in self.secrets:
            return _fault(404, "SecretNotFound", f"A secret with (name/id) {name} was not found")
        return Answered(body=self.secrets[name])


def _fault(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Answered:
    body = {"error": {"code": code, "message": message}}
    return Answered(status=status, body=body, headers=headers or {})
