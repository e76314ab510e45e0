"""Boot texts executed as they are: their nodes train a model, publish it and serve it.

Machines are namespaces (tests/doubles/rehearsal.py).
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.doubles.rehearsal import Machine, until
from tests.doubles.rehearsal_play import play
from tests.doubles.rehearsal_stack import stocked, tells_no_secret
from tests.doubles.rehearsal_store import RoleStore

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store() -> Iterator[RoleStore]:
    """S3 with the five buckets and the bundle."""
    with stocked() as store:
        yield store


def test_a_region_trains_a_model_and_serves_it(store: RoleStore) -> None:
    with ExitStack() as stack:
        played = play(stack, store)
        misfit = played.misfit

        assert played.outcome == "published"
        assert played.answer["usage"]["completion_tokens"] > 0, played.answer
        assert all("DesiredCapacity=0" in form for m in played.trainers for _, form in m.orders)
        until(lambda: misfit.is_off, lambda: f"what is refused goes off: {misfit.unit}")
        assert [(status, "Terminate" in form) for status, form in misfit.orders] == [(200, True)]
        for machine in (played.gateway, played.replica):
            [(status, form)] = machine.orders
            assert (status, "CompleteLifecycleAction" in form) == (200, True)
        assert all(tells_no_secret(machine) for machine in played.region.machines)
        assert is_left_to_its_user(played.replica)


def is_left_to_its_user(machine: Machine) -> bool:
    """Whether the runtime is nobody special, and can't write its own code and packages."""
    lines = machine.run("ps", "-eo", "user=,args=").splitlines()
    users = {line.split()[0] for line in lines if "runtime.node" in line}
    writable = ["(", "-user", "atoll", "-o", "-perm", "-o=w", ")", "-not", "-type", "l"]
    # uv leaves its lock, which anybody may take.
    found = machine.run("find", "/opt/atoll", *writable, "-not", "-name", ".lock")
    return users == {"atoll"} and found == ""
