"""From a stack file's settings to a spec, with every fault at once."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from infra.config import read_spec, stack_spec
from infra.plan.settings import NAMESPACE
from infra.plan.spec import StackSpec
from tests.strategies import specs

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


def as_config(spec: BaseModel) -> dict[str, object]:
    """The stack file that says all of a spec."""
    return {f"{NAMESPACE}:{key}": part for key, part in spec.model_dump(mode="json").items()}


def fault(config: dict[str, object]) -> str:
    """The one fault of a config, as its reader sees it."""
    _, (found,) = read_spec(config)
    return str(found)


@given(specs())
def test_a_spec_that_is_written_down_is_read_back(spec: StackSpec) -> None:
    assert read_spec(as_config(spec)) == (spec, [])


def test_nothing_written_means_all_defaults() -> None:
    assert read_spec({}) == (StackSpec(), [])


def test_keys_of_other_packages_are_not_ours_to_judge() -> None:
    assert read_spec({"aws:region": "eu-west-1", "pulumi:tags": {"a": 1}}) == (StackSpec(), [])


def test_a_key_without_namespace_is_ours_as_pulumi_has_it() -> None:
    spec, faults = read_spec({"training": {"nodes": 3}})

    assert spec.training.nodes == 3
    assert not faults


@given(
    st.dictionaries(
        st.sampled_from(
            ["atoll:cluster", "atoll:training", "atoll:serving", "atoll:oops", "nodes"]
        ),
        st.recursive(
            scalars,
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["nodes", "model", "schedule", "minute", "zone", "width", "x"]),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        ),
    )
)
def test_whatever_is_written_gives_a_spec_and_faults_but_no_accident(
    config: dict[str, object],
) -> None:
    spec, faults = read_spec(config)

    assert isinstance(spec, StackSpec)
    paths = [found.at for found in faults]
    assert len(set(paths)) == len(paths), "each setting is reported once"
    assert all(f.at.startswith("atoll:") and f.found and f.allowed and f.do for f in faults)
    assert all("\n" not in str(f) for f in faults), "one line each"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"atoll:training": {"nodes": 0}},
            "atoll:training.nodes: found 0; allowed 1 to 50; correct it, or remove it for 2.",
        ),
        (
            {"atoll:training": {"nodes": "two"}},
            'atoll:training.nodes: found "two"; allowed a whole number, 1 to 50; '
            "correct it, or remove it for 2.",
        ),
        (
            {"atoll:training": {"nodes": True}},
            "atoll:training.nodes: found true; allowed 1 to 50; correct it, or remove it for 2.",
        ),
        (
            {"atoll:serving": {"replcas": 3}},
            "atoll:serving.replcas: found a key of no meaning; allowed replicas, gateways, "
            "max_tokens, slots, queue, drain_s, threads; write replicas.",
        ),
        (
            {"atoll:trainning": {}},
            "atoll:trainning: found a key of no meaning; allowed cluster, training, serving, "
            "access, pools, budget; write training.",
        ),
        (
            {"atoll:cluster": {"cloud": "moon"}},
            'atoll:cluster.cloud: found "moon"; allowed local, aws, gcp, azure; '
            "correct it, or remove it for local.",
        ),
        (
            {"atoll:cluster": {"aws": {"region": "x"}}},
            "atoll:cluster.aws: found a key of no meaning; allowed cloud, region, zones, egress, "
            "retain_data; remove it: no cloud has settings of its own yet.",
        ),
        (
            {"atoll:training": {"schedule": {"hour": 3, "minute": 5, "zone": "Mars/Base"}}},
            'atoll:training.schedule.zone: found "Mars/Base"; allowed text: IANA time zone, for '
            "example Europe/Zurich; correct it, or remove it for UTC.",
        ),
        (
            {"atoll:training": {"schedule": {"hour": 3}}},
            "atoll:training.schedule.minute: found nothing; allowed 0 to 59; add it.",
        ),
        (
            {"atoll:training": {"schedule": {"hour": 3, "minute": 99}}},
            "atoll:training.schedule.minute: found 99; allowed 0 to 59; correct or remove it.",
        ),
        (
            {"atoll:access": []},
            "atoll:access: found []; allowed keys of address, port, tls, domain, certificate, "
            "allowed_ranges; correct or remove it.",
        ),
        (
            {"atoll:training": {"learning_rate": float("inf")}},
            "atoll:training.learning_rate: found Infinity; allowed more than 0; "
            "correct it, or remove it for 0.002.",
        ),
    ],
)
def test_a_fault_says_where_what_is_allowed_and_what_to_do(
    config: dict[str, object], said: str
) -> None:
    assert fault(config) == said


@pytest.mark.parametrize("section", ["serving", "training"])
@pytest.mark.parametrize("count", ["nodes", "min_nodes", "replicas", "gateways"])
def test_no_pool_may_be_empty(section: str, count: str) -> None:
    if count not in StackSpec.model_fields[section].get_default(
        call_default_factory=True
    ).model_fields_set | set(type(getattr(StackSpec(), section)).model_fields):
        return

    assert f"atoll:{section}.{count}: found 0; allowed 1 to" in fault(
        {f"atoll:{section}": {count: 0}}
    )


def test_numbers_may_come_as_text_as_pulumi_config_set_writes_them() -> None:
    spec, faults = read_spec({"atoll:training": {"learning_rate": "0.001", "nodes": "3"}})

    assert (spec.training.learning_rate, spec.training.nodes) == (0.001, 3)
    assert not faults


def test_retaining_data_may_be_said_in_one_word() -> None:
    spec, faults = read_spec({"atoll:cluster": {"retain_data": True}})

    assert spec.cluster.retain_data == ("data", "checkpoints", "models")
    assert not faults
    assert read_spec({"atoll:cluster": {"retain_data": False}})[0].cluster.retain_data == ()


def test_a_long_value_is_cut_in_the_message() -> None:
    said = fault({"atoll:cluster": {"cloud": "x" * 10_000}})

    assert len(said) < 300


def test_the_rest_of_a_part_with_a_fault_is_kept() -> None:
    spec, _ = read_spec({"atoll:training": {"nodes": 0, "steps": 7, "model": {"width": 1}}})

    assert spec.training.steps == 7
    assert spec.training.nodes == StackSpec().training.nodes


def test_the_program_reads_what_pulumi_hands_over(monkeypatch: pytest.MonkeyPatch) -> None:
    handed = {"atoll:training": '{"nodes":3}', "atoll:access": "oops", "aws:region": "x"}
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps(handed))

    spec, (found,) = stack_spec()

    assert spec.training.nodes == 3
    assert found.at == "atoll:access"
