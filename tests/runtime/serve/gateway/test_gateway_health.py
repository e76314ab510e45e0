from runtime.coordination.log import Presence
from runtime.limits import READY_CHECKS_DOWN
from runtime.serve.gateway.health import Replica, Replicas


def presence(node: str, address: str = "127.0.0.2", state: str = "ready") -> Presence:
    return Presence(
        node=node,
        pool="replica",
        role="replica",
        address=address,
        port=8000,
        boot_id="b",
        pid=1,
        state=state,
    )


def known(*presences: Presence) -> tuple[Replicas, dict[str, Replica]]:
    replicas = Replicas(clock=lambda: 0.0)
    replicas.listed(presences)
    return replicas, {replica.node: replica for replica in replicas.known}


def test_presence_alone_makes_nobody_ready() -> None:
    replicas, by_node = known(presence("a"))
    assert replicas.ready() == []

    replicas.answered(by_node["a"], is_ready=True)

    assert replicas.ready() == [by_node["a"]]


def test_nodes_that_are_no_replicas_or_have_gone_are_not_known() -> None:
    training = presence("t").model_copy(update={"role": "training"})
    starting = presence("s").model_copy(update={"port": None})

    _, by_node = known(training, starting, presence("x", state="stopped"), presence("a"))

    assert set(by_node) == {"a"}


def test_a_new_address_of_a_node_replaces_the_old_one() -> None:
    replicas, by_node = known(presence("a"))
    replicas.answered(by_node["a"], is_ready=True)

    replicas.listed([presence("a", address="127.0.0.3")])
    replicas.answered(by_node["a"], is_ready=True)  # an answer of the old one that came late

    assert [replica.address for replica in replicas.known] == ["127.0.0.3"]
    assert replicas.ready() == []


def test_a_listing_that_changes_nothing_keeps_what_is_known() -> None:
    replicas, by_node = known(presence("a"))
    replicas.answered(by_node["a"], is_ready=True)

    replicas.listed([presence("a")])

    assert replicas.ready() == [by_node["a"]]


def test_a_fault_takes_a_replica_out_until_it_answers_again() -> None:
    replicas, by_node = known(presence("a"), presence("b"))
    for replica in by_node.values():
        replicas.answered(replica, is_ready=True)

    replicas.failed(by_node["a"])
    after_fault = replicas.ready()
    replicas.answered(by_node["a"], is_ready=True)

    assert after_fault == [by_node["b"]]
    assert len(replicas.ready()) == 2
    assert replicas.list_now.is_set()


def test_one_missed_probe_is_forgiven_but_not_two() -> None:
    replicas, by_node = known(presence("a"))
    replicas.answered(by_node["a"], is_ready=True)

    for probe in range(1, READY_CHECKS_DOWN + 1):
        replicas.missed(by_node["a"])

        assert bool(replicas.ready()) == (probe < READY_CHECKS_DOWN)


def test_tried_nodes_are_asked_again_only_if_nobody_else_is_ready() -> None:
    replicas, by_node = known(presence("a"), presence("b"))
    for replica in by_node.values():
        replicas.answered(replica, is_ready=True)

    assert replicas.ready(without={"a"}) == [by_node["b"]]
    assert len(replicas.ready(without={"a", "b"})) == 2
