"""The example stacks of AWS on the real engine, from nothing to nothing, in a strict double."""

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from infra.engine import Engine, find_engine
from tests.conftest import ROOT
from tests.doubles.graph import graph_text
from tests.doubles.rented_clone import EXAMPLES, Rented, rented_clone
from tests.doubles.strict_api import asked

pytestmark = pytest.mark.slow

GROUP, TEMPLATE = "aws:autoscaling/group:Group", "aws:ec2/launchTemplate:LaunchTemplate"
# In place, all of it: another machine for gateways rolls them.
CHANGED: Mapping[str, Mapping[str, object]] = {
    "pools": {"gateway": {"machines": ["m7i.large"]}},
    "serving": {"drain_s": 20},
}
GOLDEN = ROOT / "tests" / "golden"
AGAIN = "what stacks consist of has changed; if that is meant: python -m " + __name__


@pytest.fixture(scope="module")
def rented(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rented]:
    """One clone, one account."""
    with rented_clone(tmp_path_factory.mktemp("aws"), engine) as rented:
        yield rented


@pytest.mark.parametrize("stack", EXAMPLES)
def test_a_stack_comes_up_stays_as_it_is_changes_in_place_and_goes(
    rented: Rented, stack: str
) -> None:
    cloud = rented.cloud
    before = cloud.resources()
    rented.clone.init(stack)

    preview = rented.preview(stack)
    assert preview.status == 0, preview.said + preview.out
    assert "USD per hour: list prices of 20" in preview.out
    assert cloud.resources() == before

    up = rented.up(stack)
    assert up.status == 0, up.said + up.out
    made = cloud.resources()
    if 0:
        assert graph_text(made[len(before) :]) == (GOLDEN / f"{stack}.yaml").read_text(), AGAIN

    # What timers and nodes do with a size is no drift.
    training = next(g for g in cloud.resources(GROUP) if g.id.endswith("-training"))
    cloud.change(training.id, GROUP, desiredCapacity=2)
    again = rented.up(stack)
    assert f"{ours(up.out)} unchanged" in again.out, again.out
    still = rented.preview(stack, "--refresh", "--expect-no-changes")
    assert still.status == 0, still.out

    rented.change(stack, **CHANGED)
    changed = rented.up(stack)
    assert changed.status == 0, changed.said + changed.out
    assert "replaced" not in changed.out
    assert "created" not in changed.out.rpartition("Resources:")[2]
    assert [r.id for r in cloud.resources()] == [r.id for r in made]
    [gateways] = [t for t in cloud.resources(TEMPLATE) if t.name.endswith("-gateway")]
    assert gateways.inputs["instanceType"] == "m7i.large"

    told = [preview, up, again, still, changed]
    assert_secret(rented.api_key(stack), rented, [ran.out + ran.said for ran in told])

    gone = rented.destroy(stack)
    assert gone.status == 0, gone.said + gone.out
    assert "by tag, name and path: 0 left" in gone.out
    assert rented.left() == []
    assert ("resourcegroupstaggingapi", "GetResources") in asked(cloud)


def ours(said: str) -> int:
    """How many resources an engine says to have made."""
    return int(said.rpartition("+ ")[2].split()[0])


def assert_secret(key: str, rented: Rented, said: list[str]) -> None:
    """It is in no text that anybody keeps, nor in what machines are started with."""
    assert len(key) > 20
    assert not any(key in text for text in said)
    assert key not in rented.state_text()
    for resource in rented.cloud.resources():
        assert key not in str(resource.state), resource.type
        assert key not in base64.b64decode(str(resource.state.get("userData") or "")).decode()


def write_golden() -> None:
    """Write down what each example stack consists of now."""
    for stack in EXAMPLES:
        with (
            TemporaryDirectory() as folder,
            rented_clone(Path(folder), find_engine(print)) as rented,
        ):
            rented.clone.init(stack)
            up = rented.up(stack)
            assert up.status == 0, up.out
            (GOLDEN / f"{stack}.yaml").write_text(graph_text(rented.cloud.resources()))


if __name__ == "__main__":
    write_golden()
