"""What a stack has left in AWS, found without reading Pulumi's state, and removed when asked.

Leaves alone what is tagged to be kept, and everything that another stack or stranger has in the
same account. What is found how: `sweeping/finding.py`; in which order it goes: `clearing.py`.
"""

import time
from collections.abc import Callable

import boto3  # type: ignore[import-untyped]

from infra.clouds.aws.sweeping.api import Api
from infra.clouds.aws.sweeping.clearing import clear_all
from infra.clouds.aws.sweeping.deleting import ORDER, Rented
from infra.clouds.aws.sweeping.finding import Thing, find
from infra.clouds.aws.sweeping.pricing import usd_per_hour
from infra.clouds.aws.tags import TAG_RETAIN
from infra.clouds.leftovers import SweepReport


def sweep(session: boto3.Session, region: str, stack_id: str) -> SweepReport:
    """Look for everything of a stack in its region, and in what AWS has without regions."""
    return _report(Api(session, region), stack_id)


def clear(
    session: boto3.Session,
    region: str,
    report: SweepReport,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Delete exactly what a sweep found left, and return when a new one finds none of it.

    A key that AWS keeps until its date stays, and what the sweep could not confirm.
    """
    api = Api(session, region)
    clear_all(api, report, lambda stack_id: _report(api, stack_id), sleep)


def _report(api: Api, stack_id: str) -> SweepReport:
    left: list[Rented] = []
    kept: list[Rented] = []
    for thing in find(api, stack_id):
        is_kept = thing.row.tags.get(TAG_RETAIN) == "true"
        (kept if is_kept else left).append(_item(thing, api.region, stack_id))
    return SweepReport(left=_in_order(left), kept=_in_order(kept))


def _item(thing: Thing, region: str, stack_id: str) -> Rented:
    row, state = thing.row, (thing.row.state or "").lower()
    said = [row.arn or f"{region} {row.tags.get('Name') or row.name or row.holder or ''}".strip()]
    if row.until is not None:
        said.append(f"AWS deletes it at {row.until:%Y-%m-%d %H:%M %Z}".strip())
    elif row.arn and row.name:
        said.append(row.name)
    return Rented(
        kind=thing.kind,
        id=row.id,
        where=", ".join(said),
        usd_per_hour=usd_per_hour(thing.kind, row, region),
        stack_id=stack_id,
        arn=row.arn or "",
        holder=row.holder or "",
        is_going=state.startswith("delet") or state == "shutting-down",
        is_scheduled=thing.kind == "key" and row.until is not None,
    )


def _in_order(items: list[Rented]) -> tuple[Rented, ...]:
    """As they would be deleted; what nobody here can delete comes last."""
    return tuple(sorted(items, key=lambda item: (ORDER.get(item.kind, len(ORDER)), item.id)))
