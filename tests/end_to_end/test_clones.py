"""Two clones on one machine, each with a stack of the same name: they never meet."""

from collections.abc import Iterator

import pytest

from infra.engine import Engine
from tests.end_to_end.conftest import Clone, make_clone

pytestmark = pytest.mark.slow

STACK = "local"


@pytest.fixture
def clones(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Clone]]:
    """Both with their stack standing, not trained."""
    made = []
    for _ in range(2):
        clone = make_clone(tmp_path_factory.mktemp("twin") / "atoll", engine)
        clone.write_stack(STACK)
        clone.init(STACK)
        made.append(clone)
    yield made
    for clone in made:
        clone.close()


def test_two_clones_share_nothing_and_one_goes_without_the_other(clones: list[Clone]) -> None:
    ups = [clone.start("pulumi", "up", "--yes", "--stack", STACK) for clone in clones]
    ended = [up.communicate() for up in ups]
    assert [up.returncode for up in ups] == [0, 0], ended
    one, other = clones
    status = [clone.status(STACK) for clone in clones]
    swept = [clone.run("atoll", "sweep", "--stack", STACK, "--json").answer for clone in clones]

    destroyed = one.pulumi("destroy", "--yes", "--stack", STACK)

    assert status[0]["stack_id"] != status[1]["stack_id"]
    assert status[0]["endpoint_url"] != status[1]["endpoint_url"]
    found = [{(item["kind"], item["where"]) for item in s["left"]} for s in swept]
    assert found[0]
    assert found[1]
    assert not {item for item in found[0] & found[1] if item[0] != "socket"}
    assert destroyed.status == 0, destroyed.out
    assert "0 left" in destroyed.out
    assert one.processes() == []
    assert [n["pid"] for n in other.status(STACK)["nodes"]] == [
        n["pid"] for n in status[1]["nodes"]
    ]
