"""A pool as a resource, with real keepers and real nodes."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from infra.checkout import stack_folder
from infra.provider.keeping.pool_file import read_pool_file
from infra.provider.kind import Incomplete
from infra.provider.pool import PoolInputs, PoolKind
from runtime.coordination.log import Log, PoolLog, PoolRecord
from runtime.errors import Refused
from tests.infra.provider.pool_under_test import DIES, MakePool, PoolUnderTest, until
from tests.infra.provider.said import Said

KIND = PoolKind()


@pytest.fixture
def pool(make_pool: MakePool) -> PoolUnderTest:
    """A serving pool of two that is up."""
    pool = make_pool()
    KIND.create(inputs(pool), Said().context)
    return pool


def inputs(pool: PoolUnderTest, model_name: str = "first", **changes: object) -> PoolInputs:
    """What the program says of a pool."""
    known = pool.file(model_name).model_dump(exclude={"python"})
    return PoolInputs.model_validate(known | changes)


def folders(pool: PoolUnderTest) -> set[str]:
    """All of a stack's folder that pools make, two levels deep."""
    folder = stack_folder(pool.home, pool.stack_id)
    return {str(path.relative_to(folder)) for path in folder.glob("*/*")}


def kinds(pool: PoolUnderTest) -> list[str]:
    """What the pool's log tells, in order."""
    log = Log(pool.control, f"pools/{pool.role}/log", PoolRecord)
    return [record.kind for record in log.read()]


def kill_keeper(pool: PoolUnderTest) -> None:
    """With -9; returns when it is gone."""
    os.kill(pool.keeper().pid, signal.SIGKILL)
    until(lambda: not KIND.read(inputs(pool), {}))


def test_create_returns_when_all_nodes_are_up(make_pool: MakePool) -> None:
    pool, said = make_pool(), Said()

    resource_id, computed = KIND.create(inputs(pool), said.context)

    assert len(pool.ready()) == 2
    assert (resource_id, computed) == (f"{pool.stack_id}/replica", {})
    assert said.lines[-1] == "2 nodes up"
    assert KIND.read(inputs(pool), computed)


def test_create_takes_over_what_a_killed_up_left(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start()
    nodes, keeper = pool.until_ready(2), pool.keeper()

    KIND.create(inputs(pool), Said().context)

    assert pool.keeper() == keeper
    assert pool.ready() == nodes


def test_a_pool_without_its_keeper_is_not_there_until_it_is_made_again(
    pool: PoolUnderTest,
) -> None:
    nodes = pool.ready()

    kill_keeper(pool)

    assert not KIND.read(inputs(pool), {})
    KIND.create(inputs(pool), Said().context)
    assert KIND.read(inputs(pool), {})
    assert pool.ready() == nodes


def test_another_size_leaves_the_nodes_that_stay_and_no_folder_at_the_end(
    pool: PoolUnderTest,
) -> None:
    before = pool.ready()

    KIND.update(inputs(pool, size=3), {}, Said().context)
    grown = pool.ready()
    smaller = inputs(pool, size=1, size_max=1)
    KIND.update(smaller, {}, Said().context)
    shrunk = pool.ready()
    KIND.delete(smaller, {}, Said().context)

    assert len(grown) == 3
    assert grown.items() >= before.items()
    assert shrunk == {"replica-0": before["replica-0"]}
    assert folders(pool) == set()


def test_a_changed_template_is_run_by_all_nodes_when_update_returns(pool: PoolUnderTest) -> None:
    before, keeper = pool.ready(), pool.keeper()

    KIND.update(inputs(pool, "second"), {}, Said().context)

    after = pool.ready()
    assert {p.model for name in after if (p := pool.presence(name))} == {"second"}
    assert len(after) == 2
    assert not set(before.values()) & set(after.values())
    assert pool.keeper() == keeper


def test_delete_leaves_neither_process_nor_folder_but_those_of_other_pools(
    pool: PoolUnderTest,
) -> None:
    theirs = stack_folder(pool.home, pool.stack_id) / "nodes" / "gateway-0"
    theirs.mkdir()
    said = Said()

    KIND.delete(inputs(pool), {}, said.context)

    assert pool.processes() == []
    assert folders(pool) == {"nodes/gateway-0"}
    assert said.lines == ["stopping nodes", "stopped"]
    KIND.delete(inputs(pool), {}, Said().context)  # gone already is no fault


def test_delete_also_ends_nodes_that_nobody_keeps(pool: PoolUnderTest) -> None:
    kill_keeper(pool)

    KIND.delete(inputs(pool), {}, Said().context)

    assert pool.processes() == []
    assert folders(pool) == set()


def test_a_node_that_refuses_its_bundle_ends_the_wait_with_its_reason(make_pool: MakePool) -> None:
    pool = make_pool(bundle=b"no bundle at all")

    with pytest.raises(Incomplete, match=r"replica-\d: .*unpacked") as raised:
        KIND.create(inputs(pool), Said().context)

    assert raised.value.resource_id == f"{pool.stack_id}/replica"
    assert KIND.read(inputs(pool), {}), "it is kept, to be mended by the next up"


def test_a_bundle_that_the_first_node_refuses_is_no_success(pool: PoolUnderTest) -> None:
    before, good = pool.ready(), pool.bundle
    pool.bundle = b"no bundle at all"

    with pytest.raises(Incomplete, match=r"replica-0: .*unpacked"):
        KIND.update(inputs(pool), {}, Said().context)

    assert pool.ready() == {"replica-1": before["replica-1"]}
    pool.bundle = good
    KIND.update(inputs(pool), {}, Said().context)
    assert pool.ready().keys() == before.keys()
    assert pool.ready()["replica-1"] == before["replica-1"]


def test_a_wait_that_is_cancelled_keeps_what_there_is(make_pool: MakePool) -> None:
    pool, said = make_pool(), Said()
    said.cancelled.set()

    with pytest.raises(Incomplete, match="cancelled with 0 of 2 nodes up"):
        KIND.create(inputs(pool, DIES), said.context)

    keeper = pool.keeper()
    KIND.update(inputs(pool), {}, Said().context)
    assert len(pool.ready()) == 2
    assert pool.keeper() == keeper


def test_a_keeper_killed_during_the_wait_ends_it(make_pool: MakePool) -> None:
    pool = make_pool()

    with ThreadPoolExecutor(1) as threads:
        making = threads.submit(KIND.create, inputs(pool, DIES), Said().context)
        until(lambda: KIND.read(inputs(pool, DIES), {}))
        kill_keeper(pool)

        with pytest.raises(Incomplete, match="keeper"):
            making.result()


def test_a_training_pool_rests_and_is_held_while_it_is_changed(make_pool: MakePool) -> None:
    pool, said = make_pool(role="training", size=0), Said()
    KIND.create(inputs(pool), said.context)
    before = kinds(pool)

    KIND.update(inputs(pool, size_max=2), {}, said.context)

    assert set(said.lines) == {"at rest: no nodes until a run starts"}
    assert before == []
    assert kinds(pool) == ["hold", "release"]
    with pytest.raises(Refused, match="allowed 0 to 2"):
        pool.client.set_size(3)


def test_a_training_pool_is_not_changed_under_a_live_run(make_pool: MakePool) -> None:
    pool = make_pool(role="training", size=0)
    KIND.create(inputs(pool), Said().context)
    PoolLog(pool.control, "training", "test").claim("run-1", datetime.now(UTC))

    with pytest.raises(Refused, match=r"run-1 is live.* atoll runs stop run-1 --stack test"):
        KIND.update(inputs(pool, size_max=2), {}, Said().context)

    assert read_pool_file(pool.file().folder).size_max == 3
    assert kinds(pool) == ["claim"]
