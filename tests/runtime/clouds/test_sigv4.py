"""Signatures, against AWS's own signer."""

from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import quote, urlencode

from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import Credentials as BotocoreCredentials  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from runtime.clouds.sigv4 import Credentials, sign
from runtime.clouds.wire import Request

WORD = st.text("abcXYZ019-_.~", min_size=1, max_size=12)
# Names of headers are lower case, values may have blanks in and around them.
HEADERS = st.dictionaries(
    st.from_regex(r"x-amz-[a-z]{1,9}", fullmatch=True) | st.just("content-type"),
    st.text("abcXYZ019;=/ ", min_size=1, max_size=20).filter(str.strip),
    max_size=4,
).filter(lambda headers: not {"x-amz-date", "x-amz-security-token"} & set(headers))
QUERY = st.dictionaries(WORD, st.text("aZ0-_.~ %+/=&é", max_size=8), max_size=4)
CREDENTIALS = st.builds(
    Credentials,
    access_key_id=WORD,
    secret_access_key=st.text("abcXYZ019+/=", min_size=1, max_size=40),
    token=st.none() | st.text("abcXYZ019+/=", min_size=1, max_size=40),
)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))


@given(
    method=st.sampled_from(["GET", "POST", "PUT"]),
    headers=HEADERS,
    query=QUERY,
    body=st.binary(max_size=64),
    credentials=CREDENTIALS,
    region=WORD,
    service=WORD,
    at=MOMENTS,
)
def test_any_request_is_signed_as_botocore_signs_it(
    method: str,
    headers: dict[str, str],
    query: dict[str, str],
    body: bytes,
    credentials: Credentials,
    region: str,
    service: str,
    at: datetime,
) -> None:
    url = "https://autoscaling.eu-central-1.amazonaws.com/"
    url += "?" * bool(query) + urlencode(query, safe="~", quote_via=quote)
    theirs = AWSRequest(method, url, dict(headers), body)
    ours = Request(method=method, url=url, headers=headers, body=body)

    signed = sign(ours, credentials, region=region, service=service, at=at)

    keys = BotocoreCredentials(
        credentials.access_key_id, credentials.secret_access_key, credentials.token
    )
    with patch("botocore.auth.get_current_datetime", return_value=at):
        SigV4Auth(keys, service, region).add_auth(theirs)
    assert signed.headers["authorization"] == theirs.headers["Authorization"]
    assert signed.headers["x-amz-date"] == theirs.headers["X-Amz-Date"]
    assert signed.headers.get("x-amz-security-token") == theirs.headers.get("X-Amz-Security-Token")
    assert (signed.url, signed.body) == (ours.url, ours.body)


def test_keys_are_not_shown() -> None:
    credentials = Credentials(access_key_id="AKIA", secret_access_key="hidden", token="veiled")
    request = Request(method="GET", url="https://host/", body=b"hidden")

    signed = sign(request, credentials, region="r", service="s", at=datetime.now(UTC))

    assert "hidden" not in repr(credentials) + repr(signed)
    assert "veiled" not in repr(credentials) + repr(signed)
