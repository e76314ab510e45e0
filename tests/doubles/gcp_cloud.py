"""GCP for one node: metadata server, Compute's resize, Secret Manager; both ask for a bearer token.

Shapes: Compute Engine docs "View and query VM metadata", "Create and use Spot VMs", REST reference
`instanceGroupManagers.resize`; Secret Manager REST reference `versions.access`; all read 2026-11.
"""

import base64
import threading

from runtime.clouds.gcp import GcpCloud
from runtime.node_spec import GcpPlace
from tests.doubles.cloud_server import Answered, Asked, FakeServices

PLACE = GcpPlace(project="atoll-tests", zone="europe-west4-a", group="atoll-5e1f-training")
RESIZE = (
    f"/compute/v1/projects/{PLACE.project}/zones/{PLACE.zone}"
    f"/instanceGroupManagers/{PLACE.group}/resize"
)
SECRETS = f"projects/{PLACE.project}/secrets"


class FakeGcp(FakeServices):
    """Holds one managed instance group, and secrets."""

    name = "gcp"
    forbidden_says = "compute.instanceGroupManagers.update"
    notice_s_max = 30.0

    def __init__(self) -> None:
        super().__init__()
        self.fault_taken: dict[str, object] | None = None  # of an operation that was taken
        self.maintenance = "NONE"
        self.held = 0  # questions that were held until something changed
        self._preempted = "FALSE"
        self._changed = threading.Condition()
        self.cloud = GcpCloud(
            PLACE,
            metadata_url=self.metadata.url,
            compute_url=f"{self.services.url}/compute/v1",
            secrets_url=f"{self.services.url}/v1",
            around=self.clock.around,
        )

    def reclaim(self, left_s: float) -> None:
        """Give notice; when it ends is never told, so `left_s` is what the docs promise."""
        assert left_s == self.notice_s_max
        with self._changed:
            self._preempted = "TRUE"
            self._changed.notify_all()

    def put_secret(self, value: str) -> str:
        """Keep a secret; its reference."""
        data = base64.b64encode(value.encode()).decode()
        self.secrets["api-key"] = {
            "name": f"{SECRETS}/api-key/versions/3",
            "payload": {"data": data},
        }
        return f"{SECRETS}/api-key"

    def garble_secret(self, value: str) -> str:
        """Keep one whose answer is damaged; its reference."""
        self.secrets["broken"] = {"payload": {"data": value}}  # not base64
        return f"{SECRETS}/broken"

    missing_secret = f"{SECRETS}/nothing"

    def expire_tokens(self) -> None:
        """What was given out so far is refused from now on."""
        self._number += 1

    def _metadata(self, asked: Asked) -> Answered:
        flavor = {"Metadata-Flavor": "Google"}
        if asked.headers.get("metadata-flavor") != "Google" or "x-forwarded-for" in asked.headers:
            return Answered(status=403, headers=flavor)
        path = asked.path.removeprefix("/computeMetadata/v1/")
        if path == "instance/preempted":
            return self._preemption(asked)
        items: dict[str, object] = {
            "instance/id": "4567890123456789012",
            "instance/zone": f"projects/123456789012/zones/{PLACE.zone}",
            "instance/maintenance-event": self.maintenance,
            "instance/service-accounts/default/token": {
                "access_token": f"ya29.token-{self._number - self.behind}",
                "expires_in": 3599,
                "token_type": "Bearer",
            },
        }
        if path not in items:
            return Answered(status=404, headers=flavor)
        return Answered(body=items[path], headers=flavor)

    def _preemption(self, asked: Asked) -> Answered:
        with self._changed:
            if asked.query.get("wait_for_change") == "true":
                assert set(asked.query) == {"wait_for_change", "timeout_sec", "last_etag"}
                self.held += 1
                self._changed.wait_for(
                    lambda: asked.query["last_etag"] != f"tag-{self._preempted}",
                    int(asked.query["timeout_sec"]),
                )
            headers = {"Metadata-Flavor": "Google", "ETag": f"tag-{self._preempted}"}
            return Answered(body=self._preempted, headers=headers)

    def _service(self, asked: Asked) -> Answered:
        if asked.headers.get("authorization") != f"Bearer ya29.token-{self._number}":
            return _fault(401, "UNAUTHENTICATED", "authError", "Invalid Credentials")
        if self.throttled:
            self.throttled -= 1
            return _fault(403, "", "rateLimitExceeded", "Rate Limit Exceeded")
        if self.is_forbidden:
            return _fault(403, "PERMISSION_DENIED", "forbidden", "Required permission is missing")
        if asked.path.startswith("/v1/"):
            return self._secret(asked)
        assert (asked.method, asked.body) == ("POST", b"")
        assert set(asked.query) == {"size"}
        if "content-length" not in asked.headers:
            return Answered(status=411)
        if asked.path != RESIZE:
            return _fault(404, "", "notFound", f"The resource '{asked.path}' was not found")
        if self.fault_taken is not None:
            return Answered(body={"kind": "compute#operation", "error": self.fault_taken})
        self.size = int(asked.query["size"])
        return Answered(body={"kind": "compute#operation", "name": "op-1", "status": "PENDING"})

    def _secret(self, asked: Asked) -> Answered:
        assert (asked.method, asked.query) == ("GET", {})
        name = asked.path.removeprefix(f"/v1/{SECRETS}/").removesuffix("/versions/latest:access")
        if name not in self.secrets:
            return _fault(404, "NOT_FOUND", "", f"Secret [{name}] not found or has no versions.")
        return Answered(body=self.secrets[name])


def _fault(code: int, status: str, reason: str, message: str) -> Answered:
    error: dict[str, object] = {"code": code, "message": message}
    if status:
        error["status"] = status
    if reason:
        error["errors"] = [{"message": message, "domain": "global", "reason": reason}]
    return Answered(status=code, body={"error": error})
