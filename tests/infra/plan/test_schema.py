"""The editors' schema and the reference page are the spec, and the example is what both say."""

import json
import re
from collections.abc import Mapping

import yaml

from infra.checkout import ROOT
from infra.config import read_spec
from infra.plan.schema import PAGE, SCHEMA, page, schema, schema_text
from infra.plan.settings import settings
from infra.plan.spec import StackSpec

STACK_FILE = ROOT / "stacks" / "Pulumi.local.yaml"
AGAIN = "run: python -m infra.plan.schema"


def test_the_schema_is_fresh() -> None:
    assert SCHEMA.read_text() == schema_text(), AGAIN


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text() == page(), AGAIN


def test_every_setting_says_what_it_is_and_what_it_may_be() -> None:
    for setting in settings():
        assert setting.description, setting.path
        assert setting.allowed, setting.path


def test_defaults_on_the_page_are_read_back_as_the_defaults() -> None:
    config: dict[str, dict[str, object]] = {}
    for setting in settings():
        part, _, name = setting.path.partition(".")
        if setting.default and "." not in name:
            config.setdefault(f"atoll:{part}", {})[name] = yaml.safe_load(setting.default)

    assert read_spec(config) == (StackSpec(), [])


def test_every_setting_of_the_schema_is_a_setting_of_the_page() -> None:
    parts = schema()["$defs"]
    assert isinstance(parts, dict)

    in_schema = sum(len(part["properties"]) for part in parts.values())

    on_page = {re.sub(r"^pools\.\w+\.", "pools.*.", setting.path) for setting in settings()}
    within = ("training.model", "pools.training", "pools.replica", "pools.gateway")
    assert in_schema == len(on_page) + len(within), "all but those, which are parts"


def test_the_schema_knows_the_keys_of_the_stack_file_and_of_the_project() -> None:
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())

    assert keys_of(schema()) == set(project["config"])


def test_the_example_means_the_defaults_and_names_its_schema() -> None:
    text = STACK_FILE.read_text()

    assert text.startswith("# yaml-language-server: $schema=stack.schema.json\n")
    assert read_spec(yaml.safe_load(text)["config"]) == (StackSpec(), [])


def test_the_commented_lines_of_the_example_are_settings_too() -> None:
    commented = re.sub(r"(?m)^( +)# (\w+: \{)", r"\1\2", STACK_FILE.read_text())

    spec, faults = read_spec(yaml.safe_load(commented)["config"])

    assert not faults
    assert spec.training.schedule is not None


def keys_of(whole: Mapping[str, object]) -> set[str]:
    """Keys of `config` that the schema describes."""
    found = json.loads(json.dumps(whole))["properties"]["config"]["properties"]
    return set(found)
