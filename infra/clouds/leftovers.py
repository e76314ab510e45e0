"""What a sweep finds of a stack: the same shape on every cloud."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One thing of a stack."""

    kind: str  # as people of that cloud call it: process, folder, bucket, instance
    id: str
    where: str
    usd_per_hour: float | None = None  # list price; None: not known, or by what is used of it


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepReport:
    """What is left, and what was kept on purpose."""

    left: tuple[Item, ...]
    kept: tuple[Item, ...]
