"""Start a run and end one: a record in the pool's log decides, the pool's size follows."""

import secrets
from datetime import UTC, datetime

from infra.cli.nodes import look
from infra.cli.runs import WRITER, find_run, memberships
from infra.cli.shapes import RunStarted, RunStopped
from infra.clouds.view import StackView
from runtime.checkpoint import commits, counting
from runtime.coordination.log import Outcome, PoolLog
from runtime.errors import AtollError, Refused

NAME_BYTES = 2  # two runs claimed in one second by two people differ by these


def new_run_name(now: datetime) -> str:
    """Names sort by time."""
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(NAME_BYTES)}"


def start_run(view: StackView, run: str, now: datetime) -> RunStarted:
    """Claim the training pool for a run and make it grow.

    Closes a claimed run that is dead; raises Refused if the pool is held or a run is live.
    """
    return _claim(view, run, now)


def continue_run(view: StackView, run: str, now: datetime) -> RunStarted:
    """Claim the pool for a run that ended before it was published: it goes on where it was.

    Raises Refused for one that is live, published, or has no checkpoint to go on from.
    """
    _, entry = find_run(view, run)
    if entry.outcome is None and look(view).is_live(entry):
        raise Refused(_taken(view, run))
    if entry.outcome in ("published", "skipped"):
        raise Refused(
            f"run {run}: found {entry.outcome}; allowed failed, cancelled or no-capacity; "
            f"start another: atoll runs start --stack {view.stack}"
        )
    epochs = [record.resume_step for record in memberships(view.control, run)]
    if not counting(commits(view.checkpoints, run), epochs):
        raise Refused(
            f"run {run}: found no checkpoint of it; allowed a run with one; start another: "
            f"atoll runs start --stack {view.stack}"
        )
    return _claim(view, run, now)


def _claim(view: StackView, run: str, now: datetime) -> RunStarted:
    pool = view.training()
    log = PoolLog(view.control, pool.pool, WRITER)
    state = log.state()
    if state.open_run is not None:
        if look(view).is_live(state.open_run):
            raise Refused(_taken(view, state.open_run.run))
        log.end(state.open_run.run, "failed", f"no member was alive; closed by {run}", now)
    if not log.claim(run, now):
        state = log.state()
        if state.open_run is not None:
            raise Refused(_taken(view, state.open_run.run))
        why = state.hold.why if state.hold else "somebody else"
        raise Refused(f"pool {pool.pool}: held by {why}; let it finish, or run: make up")
    try:
        view.grow(pool, run, now)
    except AtollError as fault:
        log.end(run, "failed", f"the pool could not grow: {fault}", now)
        raise
    return RunStarted(run=run, pool=pool.pool, nodes=pool.nodes)


def stop_run(view: StackView, run: str, why: str, now: datetime) -> RunStopped:
    """End an open run as cancelled and let its pool rest; one that has ended stays as it is."""
    return end_run(view, run, "cancelled", why, now)


def end_run(view: StackView, run: str, outcome: Outcome, why: str, now: datetime) -> RunStopped:
    """End an open run and let its pool rest. Raises Refused if there is no such run."""
    pool, _ = find_run(view, run)
    log = PoolLog(view.control, pool, WRITER)
    is_changed = log.end(run, outcome, why, now)
    if is_changed and log.state().open_run is None and view.held(pool) is not None:
        view.rest(pool)
    _, entry = find_run(view, run)
    return RunStopped(run=run, state=entry.outcome or outcome, is_changed=is_changed)


def resume_run(view: StackView, run: str, now: datetime) -> None:
    """Make the pool of a claimed run grow again: its nodes join what is open."""
    view.grow(view.training(), run, now)


def _taken(view: StackView, run: str) -> str:
    return (
        f"run {run} is live in stack {view.stack}; wait for its end, or stop it: "
        f"atoll runs stop {run} --stack {view.stack}"
    )
