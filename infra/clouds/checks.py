"""What a look at an account finds, in words that fit every cloud."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    is_ok: bool | None  # None: nobody could tell
    found: str
    do: str = ""
