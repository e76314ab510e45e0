"""Pulumi's SDK drops what is None on its way to the provider: so it must mean the same left out."""

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from infra.plan.facts import Facts
from infra.plan.plan import plan
from infra.plan.spec import StackSpec
from infra.provider.main import KINDS
from runtime.node_spec import Strict


def models(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """All that are made of it."""
    for kind in base.__subclasses__():
        yield kind
        yield from models(kind)


MODELS = [*models(Strict), *(kind.inputs for kind in KINDS)]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_what_may_be_none_may_be_left_out(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        if type(None) in getattr(field.annotation, "__args__", ()):
            assert not field.is_required(), name
            assert field.default is None, name


def test_the_default_stack_reaches_the_provider() -> None:
    planned = plan(StackSpec(), Facts(cores=2, data_files=1, data_bytes=1 << 20))
    [training] = [pool.train for pool in planned.pools if pool.train is not None]
    sent = {key: value for key, value in training.model_dump().items() if value is not None}

    assert type(training).model_validate(sent) == training
