"""Which resources and look-ups of AWS's SDK the kit's own code names."""

import ast
from collections.abc import Iterator

import pulumi
import pulumi_aws

from tests.conftest import ROOT

ROOM = ROOT / "infra" / "clouds" / "aws"


def declared_types() -> set[str]:
    """Classes of resources: `ec2.Vpc`."""
    return {name for name in _called() if name != "Provider" and _is_resource(name)}


def looked_up() -> set[str]:
    """Functions that ask: `ssm.get_parameter`."""
    return {
        name.removesuffix("_output")
        for name in _called()
        if name.rpartition(".")[2].startswith("get_")
    }


def token_of(name: str) -> str:
    """Of a class: `aws:ec2/vpc:Vpc`."""
    token: str = _thing(name).pulumi_type  # type: ignore[attr-defined]
    return token


def _called() -> Iterator[str]:
    for path in sorted(ROOM.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name.startswith("aws."):
                    yield name.removeprefix("aws.")


def _is_resource(name: str) -> bool:
    thing = _thing(name)
    return isinstance(thing, type) and issubclass(thing, pulumi.Resource)


def _thing(name: str) -> object:
    thing: object = pulumi_aws
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing
