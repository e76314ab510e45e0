"""Whose key is accepted, how many requests may be open, how many retries are left.

Pure. A key is never kept or logged, only the SHA-256 that the node file brought is compared.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from runtime.limits import RETRY_BUDGET, RETRY_SHARE

SCHEME = "bearer"


def is_key_accepted(authorization: str | None, digests: Sequence[str]) -> bool:
    """Whether an Authorization header carries an accepted key.

    Every digest is compared, in constant time, so that neither position nor prefix shows.
    """
    scheme, _, key = (authorization or "").partition(" ")
    digest = sha256(key.strip().encode()).hexdigest()
    matches = [hmac.compare_digest(digest, accepted) for accepted in digests]
    return scheme.lower() == SCHEME and any(matches)


@dataclass(slots=True)
class RetryBudget:
    """Retries at hand: a burst when a replica dies, a share of the requests otherwise.

    Without it a slow service would be asked ever more often the slower it gets.
    """

    left: float = RETRY_BUDGET

    def request(self) -> None:
        """A new request earns a part of a retry."""
        self.left = min(self.left + RETRY_SHARE, RETRY_BUDGET)

    def take(self) -> bool:
        """Use one up; False if there is none."""
        if self.left < 1:
            return False
        self.left -= 1
        return True
