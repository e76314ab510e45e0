"""Which clouds there are, and what is said of those that can be planned but not deployed to yet."""

import pytest

from infra.clouds import PACKAGES, cloud, look
from infra.plan.facts import UNSEEN
from infra.plan.machines import RENTED
from infra.plan.spec import CloudName, ClusterSpec, StackSpec
from runtime.errors import Refused


@pytest.mark.parametrize("name", RENTED)
def test_a_rented_cloud_is_not_looked_at(name: CloudName) -> None:
    assert look(StackSpec(cluster=ClusterSpec(cloud=name))) is UNSEEN


@pytest.mark.parametrize("name", [name for name in RENTED if name not in PACKAGES])
def test_a_cloud_that_is_only_planned_is_not_deployed_to(name: CloudName) -> None:
    with pytest.raises(Refused, match=rf"atoll:cluster.cloud: found {name}, .* allowed local"):
        cloud(name)


def test_this_machine_is_looked_at() -> None:
    facts = look(StackSpec())

    assert facts.cores >= 1
    assert facts.data_bytes > 0
