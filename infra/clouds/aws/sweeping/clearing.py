"""Deletes what a sweep found, in rounds: what another thing still holds is asked again.

AWS lets go of interfaces minutes after their balancer or gateway is gone, and until then refuses
to delete groups, subnets and the network. No list of who waits for whom is kept here: each round
asks for all that is left, in an order in which most goes at once.
"""

from collections.abc import Callable, Mapping

from infra.clouds.aws.sweeping.api import Api
from infra.clouds.aws.sweeping.deleting import DELETIONS, Rented
from infra.clouds.leftovers import Item, SweepReport
from runtime.errors import Conflict, Missing, Refused, Unavailable

PAUSE_S = 10.0
PAUSES_MAX = 90  # in which nothing went: 15 minutes
TOLD_MAX = 5  # of what could not be deleted


def clear_all(
    api: Api,
    report: SweepReport,
    look: Callable[[str], SweepReport],
    sleep: Callable[[float], None],
) -> None:
    """Ask for what is left until `look` finds none of it; a wait without any change is bounded.

    Raises Refused after a whole round: one missing right must not leave machines running.
    """
    pending = {_key(item): item for item in report.left if isinstance(item, Rented)}
    pending = {key: item for key, item in pending.items() if _is_deletable(item)}
    pauses = 0
    while pending:
        why = _ask(api, pending)
        before, pending = len(pending), _still(pending, look)
        if pending and len(pending) == before:
            pauses += 1
            if pauses > PAUSES_MAX:
                raise Unavailable(_words(pending, why))
            sleep(PAUSE_S)


def _ask(api: Api, pending: Mapping[tuple[str, str], Rented]) -> dict[tuple[str, str], str]:
    """One round; what AWS said to those that it did not delete."""
    why: dict[tuple[str, str], str] = {}
    refused: list[str] = []
    for key, item in pending.items():
        if item.is_going:
            continue
        try:
            DELETIONS[item.kind](api, item)
        except Missing:
            continue
        except (Conflict, Unavailable) as error:
            why[key] = str(error)
        except Refused as error:
            refused.append(f"{item.kind} {item.id}: {error}")
    if refused:
        raise Refused("\n".join([f"{len(refused)} not deleted", *refused[:TOLD_MAX]]))
    return why


def _still(
    pending: Mapping[tuple[str, str], Rented], look: Callable[[str], SweepReport]
) -> dict[tuple[str, str], Rented]:
    """Those that are still found, as they are now; nothing that came since."""
    found: dict[tuple[str, str], Rented] = {}
    for stack_id in sorted({item.stack_id for item in pending.values()}):
        try:
            left = look(stack_id).left
        except Unavailable:
            return dict(pending)
        found |= {_key(item): item for item in left if isinstance(item, Rented)}
    return {key: item for key, item in found.items() if key in pending and _is_deletable(item)}


def _is_deletable(item: Rented) -> bool:
    return item.kind in DELETIONS and not item.is_scheduled


def _key(item: Item) -> tuple[str, str]:
    return item.kind, item.id


def _words(pending: Mapping[tuple[str, str], Rented], why: Mapping[tuple[str, str], str]) -> str:
    lines = [
        f"{item.kind} {item.id}: {why.get(key, 'AWS has not finished deleting it')}"
        for key, item in list(pending.items())[:TOLD_MAX]
    ]
    waited = f"{len(pending)} still there after {PAUSES_MAX * PAUSE_S:.0f} s; sweep again later"
    return "\n".join([waited, *lines])
