"""One run's members on a real folder: who decides the next epoch, who counts as a peer."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.coordination.log import EpochRecord, Log, PoolLog, PoolRecord, Presence, epoch_log
from runtime.coordination.next_epoch import PORT_FIRST, Propose
from runtime.coordination.rendezvous import KEY_BYTES, Rendezvous
from runtime.errors import Unavailable
from runtime.limits import ALIVE_S
from runtime.objects import Store
from tests.doubles.store import HookedStore, refuse

AT = datetime(2026, 1, 2, tzinfo=UTC)
RUN = "run-1"
MEMBERS = 8


@pytest.fixture
def control(tmp_path: Path) -> HookedStore:
    return HookedStore(tmp_path / "control")


def rendezvous(control: Store, node: int = 0, run: str = RUN, claim: int = 0) -> Rendezvous:
    return Rendezvous(control, "training", run, f"training-{node}", claim)


def proposal(node: int = 0, number: int = 0) -> Propose:
    """One that names its own node first, so that a reader sees whose won."""
    return Propose(
        number=number,
        members=(f"training-{node}", "training-9"),
        address=f"127.0.0.{10 + node}",
        holders=(f"training-{node}",),
        resume_step=0,
        why="first",
    )


def beat(
    control: Store,
    tmp_path: Path,
    node: str,
    run: str | None = RUN,
    pool: str = "training",
    age_s: float = 0,
) -> None:
    """A node's presence, written some seconds ago by the store's clock."""
    presence = Presence(
        node=node,
        pool=pool,
        role="training",
        address="127.0.0.1",
        boot_id="b",
        pid=1,
        state="joining",
        run=run,
    )
    control.put(f"nodes/{node}", presence.model_dump_json().encode())
    path = tmp_path / "control" / "nodes" / node
    written_s = path.stat().st_mtime - age_s
    os.utime(path, (written_s, written_s))


def test_an_epoch_says_who_where_from_which_step_and_by_whom(control: Store) -> None:
    assert rendezvous(control).propose(proposal(), 0, AT)

    mine = rendezvous(control, node=1)
    mine.epochs()
    assert mine.propose(proposal(1, 1), 30, AT)

    first, second = rendezvous(control, node=2).epochs()
    assert (first.members, first.resume_step) == (("training-0", "training-9"), 0)
    assert (second.members, second.resume_step) == (("training-1", "training-9"), 30)
    assert (first.holders, second.holders) == (("training-0",), ("training-1",))
    assert (first.writer, second.writer) == ("training-0", "training-1")
    assert first.rendezvous == f"127.0.0.10:{PORT_FIRST}"
    assert second.rendezvous == f"127.0.0.11:{PORT_FIRST + 1}"


def test_of_many_proposals_at_once_one_is_the_epoch(control: Store) -> None:
    def propose(node: int) -> tuple[bool, list[EpochRecord]]:
        mine = rendezvous(control, node)
        return mine.propose(proposal(node), node, AT) is not None, mine.epochs()

    with ThreadPoolExecutor(MEMBERS) as threads:
        told = list(threads.map(propose, range(MEMBERS)))

    winners = [node for node, (has_won, _) in enumerate(told) if has_won]
    assert len(winners) == 1
    for _, epochs in told:
        assert [epoch.writer for epoch in epochs] == [f"training-{winners[0]}"]


def test_who_has_not_seen_the_last_epoch_does_not_decide_the_next(control: Store) -> None:
    behind = rendezvous(control, node=1)
    assert behind.epochs() == []
    assert rendezvous(control).propose(proposal(), 0, AT)

    assert not behind.propose(proposal(1), 0, AT)

    assert [epoch.writer for epoch in behind.epochs()] == ["training-0"]


def test_after_the_end_nobody_decides_an_epoch(control: Store) -> None:
    seen, unseen = rendezvous(control, node=1), rendezvous(control, node=2)
    assert rendezvous(control).propose(proposal(), 0, AT)
    seen.epochs()
    unseen.epochs()

    rendezvous(control).close("published")
    seen.epochs()

    assert not seen.propose(proposal(1, 1), 0, AT)
    assert not unseen.propose(proposal(2, 1), 0, AT)
    assert [epoch.writer for epoch in unseen.epochs()] == ["training-0"]


def test_an_end_is_written_once_however_many_write_it(control: Store) -> None:
    def close(node: int) -> None:
        rendezvous(control, node).close("cancelled")

    with ThreadPoolExecutor(MEMBERS) as threads:
        list(threads.map(close, range(MEMBERS)))
    rendezvous(control).close("again")

    assert [(record.kind, record.why) for record in epoch_log(control, RUN).read()] == [
        ("end", "cancelled")
    ]


def test_members_of_a_run_have_one_key_and_those_of_another_run_another(
    control: Store,
) -> None:
    with ThreadPoolExecutor(MEMBERS) as threads:
        keys = set(threads.map(lambda node: rendezvous(control, node).key(), range(MEMBERS)))

    assert len(keys) == 1
    assert len(keys.pop()) == KEY_BYTES
    assert rendezvous(control, run="run-2").key() != rendezvous(control).key()


def test_a_run_is_open_from_its_claim_to_its_end_and_no_other_is(control: Store) -> None:
    pool_log = PoolLog(control, "training", "operator")
    mine = rendezvous(control)
    assert mine.open_entry() is None
    assert pool_log.claim(RUN, AT)

    entry = mine.open_entry()

    assert entry is not None
    assert entry.run == RUN
    assert rendezvous(control, run="run-2").open_entry() is None
    assert pool_log.end(RUN, "cancelled", "", AT)
    assert mine.open_entry() is None
    assert pool_log.claim("run-2", AT)
    assert mine.open_entry() is None


def test_a_run_that_is_claimed_again_goes_on_and_its_first_claim_is_over(control: Store) -> None:
    pool_log = PoolLog(control, "training", "operator")
    assert pool_log.claim(RUN, AT)
    old = rendezvous(control)
    assert old.propose(proposal(), 0, AT)
    assert pool_log.end(RUN, "cancelled", "", AT)
    old.close("cancelled")
    assert pool_log.claim(RUN, AT)
    entry = pool_log.state().open_run
    assert entry is not None

    new = rendezvous(control, node=1, claim=entry.number)

    assert len(new.epochs()) == 1
    assert new.propose(proposal(1, 1), 30, AT)
    assert (old.open_entry(), new.open_entry()) == (None, entry)
    old.close("cancelled late")
    old.epochs()
    assert not old.propose(proposal(0, 2), 0, AT)
    new.epochs()
    assert new.propose(proposal(1, 2), 40, AT)
    assert [epoch.writer for epoch in new.epochs()] == ["training-0", "training-1", "training-1"]


def test_peers_are_the_living_nodes_of_this_run_and_pool(control: Store, tmp_path: Path) -> None:
    beat(control, tmp_path, "training-0")
    beat(control, tmp_path, "training-1", age_s=ALIVE_S - 2)
    beat(control, tmp_path, "training-2", age_s=ALIVE_S)
    beat(control, tmp_path, "training-3", run="run-2")
    beat(control, tmp_path, "training-4", run=None)
    beat(control, tmp_path, "other-0", pool="other")

    peers = rendezvous(control).peers()

    assert sorted(peer.node for peer in peers) == ["training-0", "training-1"]


def test_a_run_is_ended_at_the_stores_time_and_the_answer_is_handed_on(
    control: HookedStore, tmp_path: Path
) -> None:
    assert PoolLog(control, "training", "operator").claim(RUN, AT)
    mine = rendezvous(control)

    answers = [mine.end(lambda log, now: log.end(RUN, "failed", "no reason", now)) for _ in "ab"]

    assert answers == [True, False]
    end = Log(control, "pools/training/log", PoolRecord).read()[-1]
    written = (tmp_path / "control" / "pools" / "training" / "log" / "00000001").stat().st_mtime
    assert (end.kind, end.writer) == ("end", "training-0")
    assert abs(end.at - datetime.fromtimestamp(written, UTC)) < timedelta(seconds=5)


def test_a_store_that_is_away_is_told_and_costs_no_record(control: HookedStore) -> None:
    mine = rendezvous(control)
    control.before = refuse("put", "put_if_absent")  # the store's time is asked for by a put

    with pytest.raises(Unavailable):
        mine.propose(proposal(), 0, AT)
    with pytest.raises(Unavailable):
        mine.close("published")
    with pytest.raises(Unavailable):
        mine.peers()

    assert epoch_log(control, RUN).read() == []
