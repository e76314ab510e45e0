"""From a URL to a store: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, file://.

obstore reads endpoints and credentials from the environment, under the names that the clouds'
own tools use (docs/reference/stores.md lists them); `options` come before the environment.
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from runtime.errors import Refused, Unavailable
from runtime.limits import STORE_PART_RETRIES, STORE_PART_S, STORE_PATIENCE_S, STORE_PAUSE_S_MAX
from runtime.objects.answers import told
from runtime.objects.patience import Patience
from runtime.objects.store import Store, folder_of

if TYPE_CHECKING:  # not there when the program runs
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3CredentialProvider

    CredentialProvider = S3CredentialProvider  # the only cloud yet whose tools keep them elsewhere

NO_RETRIES: "RetryConfig" = {"max_retries": 0, "retry_timeout": timedelta(0)}
# Variables that allow an address without TLS. obstore knows two of them, but no longer looks once
# it is given a time-out.
ALLOW_HTTP = {"s3": "AWS_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}
YES = {"1", "on", "true", "y", "yes"}


def open_store(
    url: str,
    *,
    patience_s: float = STORE_PATIENCE_S,
    patience: Patience | None = None,  # instead of `patience_s`: with a clock and dice of its own
    options: Mapping[str, str] | None = None,
    credentials: "CredentialProvider | None" = None,  # None: as the environment has them
    environ: Mapping[str, str] = os.environ,
) -> Store:
    """Open the store at `url`; a folder is made. Raises Refused, or Unavailable if it can't be.

    A call gives up after `patience_s` at most; one that moves a large object, when none of its
    parts has got through for about as long.
    """
    scheme = urlsplit(url).scheme
    if scheme == "file":
        try:
            return Store(url, LocalStore(folder_of(url), mkdir=True))
        except OSError as fault:
            raise Unavailable(f"{url}: {fault}") from fault
    if scheme not in ALLOW_HTTP:
        raise Refused(f"store: found {url!r}; allowed s3://, gs://, az:// or file://")
    patience = patience or Patience(total_s=patience_s)
    config = dict(options or {})
    # An option says so itself; a variable might be a mistake, so that another has to agree.
    allow_http = environ.get(ALLOW_HTTP[scheme], "").lower() in YES or any(
        value.startswith("http://") for value in config.values()
    )

    def backend(try_s: float, retries: "RetryConfig") -> ObjectStore:
        limit = timedelta(seconds=try_s)
        client: ClientConfig = {
            "allow_http": allow_http,
            "timeout": limit,
            "connect_timeout": limit,
        }
        return _backend(url, config, client, retries, credentials)

    part_s = min(STORE_PART_S, patience.total_s)
    part_retries: RetryConfig = {
        "max_retries": STORE_PART_RETRIES,
        "retry_timeout": timedelta(seconds=part_s),
        "backoff": {"max_backoff": timedelta(seconds=STORE_PAUSE_S_MAX)},
    }
    return Store(
        url,
        backend(patience.try_s, NO_RETRIES),
        large=backend(part_s, part_retries),
        patience=patience,
    )


def _backend(
    url: str,
    config: dict[str, str],
    client: "ClientConfig",
    retries: "RetryConfig",
    credentials: "CredentialProvider | None",
) -> ObjectStore:
    try:
        # The scheme decides which names count; obstore refuses those that it does not know.
        names = cast("S3Config", config)
        return from_url(
            url,
            config=names,
            client_options=client,
            retry_config=retries,
            credential_provider=credentials,
        )
    except BaseError as fault:
        raise Refused(f"{url}: {told(fault)}") from fault
