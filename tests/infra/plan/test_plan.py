"""Any spec that fits together is planned; any conflict is refused, with all others."""

from collections.abc import Mapping

import pytest
from hypothesis import given

from infra.config import read_spec
from infra.plan.facts import UNSEEN, Facts
from infra.plan.fault import Fault, Faults
from infra.plan.names import NODES_MAX
from infra.plan.plan import Plan, plan
from infra.plan.spec import StackSpec
from infra.plan.stores import ROLES
from tests.strategies import facts, specs

FACTS = Facts(cores=4, data_files=3, data_bytes=1 << 20)


def refused(config: Mapping[str, object], facts: Facts = FACTS) -> list[Fault]:
    """The faults that a stack file is refused with."""
    spec, known = read_spec({f"atoll:{key}": value for key, value in config.items()})
    with pytest.raises(Faults) as raised:
        plan(spec, facts, known)
    return list(raised.value.faults)


@given(specs(), facts)
def test_a_spec_that_fits_together_is_planned_whole(spec: StackSpec, facts: Facts) -> None:
    planned = plan(spec, facts)

    assert [store.role for store in planned.stores] == list(ROLES)
    assert {s.role for s in planned.stores if s.is_retained} == set(spec.cluster.retain_data)
    assert [pool.name for pool in planned.pools] == ["training", "replica", "gateway"]
    assert [pool.size_at_rest for pool in planned.pools] == [
        0,
        spec.serving.replicas,
        spec.serving.gateways,
    ]
    assert planned.price.usd_per_hour(is_training=True) == (0.0, 0.0)
    assert planned.price.note


@given(specs(), facts)
def test_each_pool_is_told_one_thing_and_fits_its_addresses(spec: StackSpec, facts: Facts) -> None:
    for pool in plan(spec, facts).pools:
        told = [pool.train, pool.serve, pool.gateway]

        assert sum(part is not None for part in told) == 1
        assert 0 <= pool.size_at_rest <= pool.size_max <= NODES_MAX


@given(specs(), facts)
def test_nodes_share_the_cores_unless_told_otherwise(spec: StackSpec, facts: Facts) -> None:
    planned = plan(spec, facts)
    train, serve = planned.pools[0].train, planned.pools[1].serve
    assert train is not None
    assert serve is not None

    if spec.training.threads_per_worker is None:
        assert train.threads_per_worker == max(1, facts.cores // spec.training.nodes)
    if spec.serving.threads is None:
        assert serve.threads == max(1, facts.cores // spec.serving.replicas)


@given(specs(), facts)
def test_a_plan_is_a_value(spec: StackSpec, facts: Facts) -> None:
    assert plan(spec, facts) == plan(spec, facts)


def test_what_a_replica_serves_is_what_training_publishes() -> None:
    planned = planned_from({"training": {"model_name": "tales"}})

    train, serve = planned.pools[0].train, planned.pools[1].serve
    assert train is not None
    assert serve is not None
    assert train.model_name == serve.model_name == planned.model_name == "tales"


def test_nodes_are_told_the_data_as_they_will_find_it() -> None:
    spec, _ = read_spec({"atoll:training": {"data": "texts"}})

    planned = plan(spec, Facts(cores=1, data_files=1, data_bytes=1 << 20, data="/clone/texts"))

    train = planned.pools[0].train
    assert train is not None
    assert train.data == "/clone/texts"


@pytest.mark.parametrize(
    ("config", "at", "found", "allowed", "do"),
    [
        (
            {"training": {"nodes": 2, "min_nodes": 3}},
            "training.min_nodes",
            "3 with 2 nodes",
            "1 to 2",
            "training.nodes",
        ),
        (
            {"training": {"model": {"heads": 5, "kv_heads": 5}}},
            "training.model.heads",
            "5 with width 192",
            "divides width",
            "change",
        ),
        (
            {"training": {"model": {"kv_heads": 4}}},
            "training.model.kv_heads",
            "4 with 6 heads",
            "divides heads",
            "change",
        ),
        (
            {"training": {"sequence_tokens": 513}},
            "training.sequence_tokens",
            "513 with a context of 512",
            "8 to 512",
            "model.context",
        ),
        (
            {"training": {"micro_batch": 17}},
            "training.micro_batch",
            "17 of a global batch of 16",
            "1 to 16",
            "global_batch",
        ),
        (
            {"training": {"nodes": 20}},
            "training.global_batch",
            "16 with 20 nodes",
            "20 or more",
            "raise",
        ),
        (
            {"training": {"warmup_steps": 480}},
            "training.warmup_steps",
            "480 of 480 steps",
            "0 to 479",
            "training.steps",
        ),
        (
            {"serving": {"max_tokens": 512}},
            "serving.max_tokens",
            "512 with a context of 512",
            "1 to 511",
            "context",
        ),
        ({"access": {"address": "here"}}, "access.address", "'here'", "IPv4", "correct"),
        ({"access": {"address": "::1"}}, "access.address", "'::1'", "IPv4", "correct"),
        (
            {"access": {"address": "0.0.0.0", "port": 8080}},
            "access.port",
            "8080",
            "except 8000, 8080",
            "another",
        ),
        (
            {"training": {"data": "some/texts"}},
            "training.data",
            "some/texts",
            "absolute",
            "whole path",
        ),
    ],
)
def test_a_conflict_is_refused_with_its_cure(
    config: Mapping[str, object], at: str, found: str, allowed: str, do: str
) -> None:
    (fault,) = refused(config)

    assert fault.at == f"atoll:{at}"
    assert found in fault.found
    assert allowed in fault.allowed
    assert do in fault.do


def test_data_that_cannot_be_read_is_refused_with_the_reason() -> None:
    facts = Facts(cores=1, data_files=0, data_bytes=0, data_fault="no text in /srv/empty")

    (fault,) = refused({"training": {"data": "/srv/empty"}}, facts)

    assert fault.at == "atoll:training.data"
    assert fault.found == "no text in /srv/empty"


def test_text_too_short_for_two_sequences_is_refused() -> None:
    (fault,) = refused({}, Facts(cores=1, data_files=1, data_bytes=257))

    assert fault.at == "atoll:training.data"
    assert "258 bytes or more" in fault.allowed


def test_all_faults_of_the_file_and_of_the_place_come_in_one_message() -> None:
    faults = refused(
        {
            "cluster": {"cloud": "gcp", "gcp": {"region": "x"}},
            "training": {
                "nodes": 0,
                "min_nodes": 9,
                "warmup_steps": 999,
                "schedule": {"minute": 1},
            },
            "serving": {"max_tokens": 4096, "replcas": 3},
            "access": {"address": "nowhere"},
        },
        Facts(cores=1, data_files=0, data_bytes=0, data_fault="Permission denied at /srv/x"),
    )

    assert sorted(fault.at.removeprefix("atoll:") for fault in faults) == [
        "access.address",
        "access.allowed_ranges",
        "cluster.gcp",
        "cluster.region",
        "serving.max_tokens",
        "serving.replcas",
        "training.data",
        "training.nodes",
        "training.schedule.hour",
        "training.warmup_steps",
    ]
    message = str(Faults(faults))
    assert message.startswith("the stack file has 10 faults; nothing was changed:")
    assert all(str(fault) in message for fault in faults)


def test_a_conflict_with_a_setting_that_is_itself_at_fault_is_not_invented() -> None:
    (fault,) = refused({"training": {"nodes": 0, "min_nodes": 3}})

    assert fault.at == "atoll:training.nodes", "min_nodes conflicts with the default only"


def test_a_conflict_with_a_part_that_is_itself_at_fault_is_not_invented() -> None:
    (fault,) = refused({"training": "none", "serving": {"max_tokens": 4096}})

    assert fault.at == "atoll:training"


def test_a_cloud_that_cannot_be_looked_at_has_no_faults_of_the_place() -> None:
    faults = refused({"cluster": {"cloud": "azure"}}, UNSEEN)

    assert [fault.at for fault in faults] == ["atoll:cluster.region", "atoll:access.allowed_ranges"]


def test_nodes_of_one_machine_may_not_share_its_gpu() -> None:
    alone = {"device": "gpu", "nodes": 1, "min_nodes": 1}
    (fault,) = refused({"training": alone | {"nodes": 2}})

    assert (fault.at, fault.beside) == ("atoll:training.device", ("atoll:training.nodes",))
    train = planned_from({"training": alone}).pools[0].train
    assert train is not None
    assert train.device == "gpu"


def test_more_threads_than_cores_is_advice_and_no_fault() -> None:
    planned = planned_from({"training": {"nodes": 3, "threads_per_worker": 2}})

    (advice,) = planned.advice
    assert "atoll:training.nodes" in advice
    assert "6 threads share 4 cores" in advice


def test_the_default_stack_on_four_cores_needs_no_advice() -> None:
    assert planned_from({}).advice == ()


def planned_from(config: Mapping[str, object]) -> Plan:
    spec, known = read_spec({f"atoll:{key}": value for key, value in config.items()})
    return plan(spec, FACTS, known)
