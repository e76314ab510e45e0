"""The key that clients of the endpoint show. Only its digest goes to the nodes."""

import hashlib
import secrets
from typing import ClassVar

from infra.provider.kind import Context, Inputs, Kind
from infra.provider.wire import Properties

KEY_BYTES = 24


class ApiKeyInputs(Inputs):
    """Nothing about a key is chosen."""

    stack_id: str


class ApiKeyKind(Kind[ApiKeyInputs]):
    """`atoll:index:ApiKey`. To change the key: `pulumi up --replace` its URN."""

    token: ClassVar[str] = "atoll:index:ApiKey"  # noqa: S105
    replaces: ClassVar[frozenset[str]] = frozenset({"stack_id"})
    computed: ClassVar[tuple[str, ...]] = ("key", "sha256")
    secret: ClassVar[frozenset[str]] = frozenset({"key"})
    inputs = ApiKeyInputs

    def create(self, inputs: ApiKeyInputs, context: Context) -> tuple[str, Properties]:
        """Draw a new key."""
        key = f"sk-atoll-{secrets.token_urlsafe(KEY_BYTES)}"
        digest = hashlib.sha256(key.encode()).hexdigest()
        return f"{inputs.stack_id}/{digest[:8]}", {"key": key, "sha256": digest}

    def read(self, inputs: ApiKeyInputs, computed: Properties) -> bool:
        """It lives in Pulumi's state alone, so it is there."""
        return True

    def delete(self, inputs: ApiKeyInputs, computed: Properties, context: Context) -> None:
        """Forgotten with the state."""
