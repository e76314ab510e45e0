"""A stack on rented machines as the commands see it: they boot for minutes, fall, and are sold out.

Stores and logs are real; the cloud is played.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from infra.cli.claims import start_run
from infra.cli.follow import DEAD_S, REFUSED_S, follow
from infra.cli.nodes import FALLEN_SHOWN_MAX, FALLEN_SHOWN_S, look, node_shapes
from infra.cli.readiness import READY_S, wait_ready
from infra.cli.reclaiming import reclaim
from infra.cli.screen import Screen, console_on
from infra.cli.shapes import NodeShape
from infra.cli.status import print_status, status
from infra.clouds.view import HeldNode, HeldPool, PoolView, StackView
from infra.plan.limits import BOOT_S
from runtime.errors import Refused, Unavailable
from runtime.limits import ALIVE_S

if TYPE_CHECKING:
    from tests.infra.cli.conftest import ScriptedClock, StandingStack

SILENT_S = ALIVE_S + 1
SOLD_OUT = "We currently do not have sufficient g6.xlarge capacity"
BOOT_FAULT = "boot: packages: line 117: status 1: no route to host"


@dataclass(frozen=True, kw_only=True, slots=True)
class RentedView(StackView):
    """Machines as a test says."""

    pools_held: dict[str, HeldPool] = field(default_factory=dict)
    deeds: list[str] = field(default_factory=list)

    def held(self, pool: str) -> HeldPool | None:
        """As told; nobody else keeps a pool."""
        return self.pools_held.get(pool)

    def hold(self, pool: str, *nodes: HeldNode, wanted: int = 0, why: str = "") -> None:
        """What a pool has from now on."""
        self.pools_held[pool] = HeldPool(wanted=wanted or len(nodes), nodes=nodes, why=why)

    def grow(self, pool: PoolView, run: str, now: datetime) -> None:
        """Noted."""
        self.deeds.append(f"{pool.pool} grows for {run}")

    def rest(self, pool: str) -> None:
        """Noted."""
        self.deeds.append(f"{pool} rests")

    def reclaim(self, pool: str, node: str, after_s: float) -> None:
        """As on a cloud."""
        raise Refused(f"node {node}: the cloud alone gives notice")

    def logs(self, pool: str) -> str:
        """Of this pool."""
        return f"the logs of {pool}"


@pytest.fixture
def rented(standing: StandingStack) -> RentedView:
    """The stores of a stack, on machines."""
    here = standing.view()
    view = RentedView(
        stack="aws-small",
        stack_id=here.stack_id,
        control=here.control,
        checkpoints=here.checkpoints,
        models=here.models,
        pools=here.pools,
        endpoint_url=None,
        is_rented=True,
        look_s=5.0,
    )
    for pool in here.pools:
        view.hold(pool.pool)
    return view


@pytest.fixture
def screen() -> Screen:
    """One that nobody looks at."""
    made = Screen()
    made.console = console_on(io.StringIO())
    return made


def machine(node: str, state: str = "running") -> HeldNode:
    """As its cloud tells it."""
    return HeldNode(node=node, address="10.0.16.4", pid=None, state=state, is_up=state == "running")


def shapes(view: RentedView) -> list[NodeShape]:
    """As `atoll status` has them."""
    return node_shapes(view, look(view))


@pytest.mark.parametrize(
    ("machine_state", "said", "silent_s", "shown"),
    [
        ("pending", None, 0.0, "pending"),
        ("running", None, 0.0, "starting"),
        ("running", {"state": "starting"}, SILENT_S, "starting"),  # it boots, and says so once
        ("running", {"state": "starting", "beat": 1}, SILENT_S, "lost"),
        ("running", {"state": "ready", "beat": 9}, 0.0, "ready"),
        ("running", {"state": "ready", "beat": 9}, SILENT_S, "lost"),
        ("stopping", {"state": "draining", "beat": 9}, 0.0, "draining"),
        ("stopping", {"state": "ready", "beat": 9}, SILENT_S, "stopping"),
        ("running", {"state": "failed", "why": BOOT_FAULT}, SILENT_S, "failed"),
    ],
)
def test_a_machine_is_what_it_says_while_it_speaks_and_what_its_cloud_says_else(
    standing: StandingStack,
    rented: RentedView,
    machine_state: str,
    said: dict[str, object] | None,
    silent_s: float,
    shown: str,
) -> None:
    rented.hold("replica", machine("replica-0", machine_state))
    if said is not None:
        standing.say("replica", 0, age_s=silent_s, pid=1, **said)

    [node] = shapes(rented)

    assert (node.node, node.state, node.pid) == ("replica-0", shown, None)
    assert node.why == (said or {}).get("why", "")


def test_machines_that_could_not_boot_are_told_with_their_reason_for_a_day(
    standing: StandingStack, rented: RentedView
) -> None:
    standing.say("replica", 0, age_s=3600, state="failed", why=BOOT_FAULT)
    standing.say("replica", 1, age_s=FALLEN_SHOWN_S + 60, state="failed", why=BOOT_FAULT)
    standing.say("replica", 2, age_s=3600, state="ready")  # taken away, and replaced

    shown = [(node.node, node.state, node.why) for node in shapes(rented)]

    assert shown == [("replica-0", "failed", BOOT_FAULT)]


def test_of_a_pool_that_falls_and_falls_the_newest_are_told(
    standing: StandingStack, rented: RentedView
) -> None:
    for index in range(FALLEN_SHOWN_MAX + 3):
        standing.say("replica", index, age_s=100.0 * (index + 1), state="failed", why=BOOT_FAULT)

    shown = [node.node for node in shapes(rented)]

    assert shown == [f"replica-{index}" for index in reversed(range(FALLEN_SHOWN_MAX))]


def test_a_pool_that_is_sold_out_is_told(rented: RentedView) -> None:
    rented.hold("training", machine("training-0", "pending"), wanted=2, why=SOLD_OUT)
    stream, screen = io.StringIO(), Screen()
    screen.console = console_on(stream)

    shape = status(rented)
    print_status(shape, screen)

    assert f"pool training: 1 of 2 nodes: {SOLD_OUT}\n" in stream.getvalue()
    pools = {pool["pool"]: pool for pool in json.loads(shape.model_dump_json())["pools"]}
    assert pools["training"] == {"pool": "training", "wanted": 2, "nodes": 1, "why": SOLD_OUT}


@pytest.mark.parametrize(("age_s", "is_refused"), [(BOOT_S, True), (BOOT_S + 60, False)])
def test_a_run_whose_machines_may_still_boot_is_live(
    standing: StandingStack, rented: RentedView, age_s: float, is_refused: bool
) -> None:
    now = datetime.now(UTC)
    assert standing.log().claim("r1", now - timedelta(seconds=age_s))

    if is_refused:
        with pytest.raises(Refused, match="run r1 is live"):
            start_run(rented, "r2", now)
        assert rented.deeds == []
    else:
        start_run(rented, "r2", now)
        assert rented.deeds == ["training grows for r2"]


def claim_before(standing: StandingStack, seconds: float) -> None:
    """A run of some time ago."""
    assert standing.log().claim("r1", datetime.now(UTC) - timedelta(seconds=seconds))


def nothing() -> None:
    """Time goes by."""


def test_a_follower_waits_while_machines_boot(
    standing: StandingStack, rented: RentedView, screen: Screen, scripted: ScriptedClock
) -> None:
    claim_before(standing, 90)
    scripted.scenes = [*[nothing] * 200, lambda: standing.end("r1", "published")]

    assert follow(rented, "r1", screen, scripted.clock).entry.outcome == "published"

    assert scripted.now_s > DEAD_S


def test_a_run_that_gets_no_machine_ends_as_no_capacity_with_the_clouds_words(
    standing: StandingStack, rented: RentedView, screen: Screen, scripted: ScriptedClock
) -> None:
    claim_before(standing, 90)
    rented.hold("training", wanted=2, why=SOLD_OUT)

    with pytest.raises(Refused, match=f"run r1 no-capacity: {SOLD_OUT}; see the logs of training"):
        follow(rented, "r1", screen, scripted.clock)

    [run] = standing.log().state().runs
    assert (run.outcome, run.why) == ("no-capacity", SOLD_OUT)
    assert rented.deeds == ["training rests"]
    assert scripted.now_s >= DEAD_S + BOOT_S


def test_a_run_whose_machine_cannot_boot_is_given_up_soon_with_the_reason(
    standing: StandingStack, rented: RentedView, screen: Screen, scripted: ScriptedClock
) -> None:
    claim_before(standing, 90)
    standing.say("training", 0, age_s=SILENT_S, state="failed", why=BOOT_FAULT)

    with pytest.raises(Refused, match="run r1 failed: node training-0: boot: packages"):
        follow(rented, "r1", screen, scripted.clock)

    assert REFUSED_S <= scripted.now_s < 2 * REFUSED_S


@pytest.mark.parametrize(
    ("age_s", "state", "wanted"),
    [
        (3600.0, "failed", 0),  # before the run
        (SILENT_S, "stopped", 0),  # it was told to go
        (SILENT_S, "failed", 1),  # another still boots
    ],
)
def test_what_says_nothing_of_the_others_does_not_end_a_run(
    standing: StandingStack,
    rented: RentedView,
    screen: Screen,
    scripted: ScriptedClock,
    age_s: float,
    state: str,
    wanted: int,
) -> None:
    claim_before(standing, 90)
    standing.say("training", 0, age_s=age_s, state=state, why=BOOT_FAULT)
    rented.hold("training", wanted=wanted)
    scripted.scenes = [*[nothing] * 100, lambda: standing.end("r1", "published")]

    assert follow(rented, "r1", screen, scripted.clock).entry.outcome == "published"


def test_replicas_have_the_time_to_boot(
    rented: RentedView, screen: Screen, scripted: ScriptedClock
) -> None:
    with pytest.raises(Unavailable, match=r"no replica was ready .*; see the logs of replica"):
        wait_ready(rented, "0" * 64, screen, scripted.clock)

    assert scripted.now_s >= READY_S + BOOT_S


def test_a_reclaim_of_a_machine_is_refused_by_its_cloud(rented: RentedView) -> None:
    rented.hold("training", machine("training-0"), machine("training-1", "pending"))

    with pytest.raises(Refused, match="node training-0: the cloud alone gives notice"):
        reclaim(rented, "training-0", 30)
    with pytest.raises(Refused, match="found none that runs; allowed training-0"):
        reclaim(rented, "training-1", 30)
