"""AWS Signature Version 4, for requests whose body is at hand.

Pure. Source: AWS IAM User Guide, "Create a signed AWS API request" (read 2026-11). Every header
that is sent is signed, so the token of temporary credentials is too. Not for S3, which wants the
digest of the body as a header and its paths encoded once; `runtime.objects` reaches stores.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import parse_qsl, quote, urlsplit

from runtime.clouds.wire import Request

ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """What a request is signed with."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)  # of temporary credentials, a node's all


def sign(
    request: Request, credentials: Credentials, *, region: str, service: str, at: datetime
) -> Request:
    """The request with the headers that prove who sends it; `at` is aware, in UTC."""
    parts = urlsplit(request.url)
    moment = at.strftime("%Y%m%dT%H%M%SZ")
    headers = {name.lower(): " ".join(value.split()) for name, value in request.headers.items()}
    headers |= {"host": parts.netloc, "x-amz-date": moment}
    if credentials.token is not None:
        headers["x-amz-security-token"] = credentials.token
    names = ";".join(sorted(headers))
    canonical = "\n".join(
        (
            request.method,
            quote(parts.path or "/", safe="/~"),
            _query(parts.query),
            *(f"{name}:{headers[name]}" for name in sorted(headers)),
            "",
            names,
            hashlib.sha256(request.body).hexdigest(),
        )
    )
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in (*scope.split("/"), f"{ALGORITHM}\n{moment}\n{scope}\n{digest}"):
        key = hmac.digest(key, part.encode(), "sha256")
    headers["authorization"] = (
        f"{ALGORITHM} Credential={credentials.access_key_id}/{scope}, "
        f"SignedHeaders={names}, Signature={key.hex()}"
    )
    return Request(method=request.method, url=request.url, headers=headers, body=request.body)


def _query(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    encoded = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)
