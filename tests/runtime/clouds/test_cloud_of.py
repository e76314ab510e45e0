"""A node's file says which cloud it is in, and where in it."""

import pytest
from pydantic import ValidationError

from runtime.clouds import cloud_of
from runtime.clouds.aws import AwsCloud
from runtime.clouds.azure import AzureCloud
from runtime.clouds.gcp import GcpCloud
from runtime.clouds.local import LocalCloud
from runtime.errors import Refused
from runtime.node_spec import NodeSpec, StoreUrls
from tests.doubles import aws_cloud, azure_cloud, gcp_cloud

PLACES = {
    "aws": aws_cloud.PLACE.model_dump(),
    "gcp": gcp_cloud.PLACE.model_dump(),
    "azure": azure_cloud.PLACE.model_dump(),
}


def node_spec(cloud: str, **blocks: object) -> NodeSpec:
    """Of a node that only knows where it is."""
    return NodeSpec.model_validate(
        {
            "stack": "test",
            "stack_id": "5e1f0a0b",
            "cloud": cloud,
            "pool": "training",
            "bundle_sha256": "0" * 64,
            "stores": dict.fromkeys(StoreUrls.model_fields, "file:///nowhere"),
            "node": "training-0",
            "address": "127.9.9.10",
            **blocks,
        }
    )


def test_each_cloud_has_its_client() -> None:
    found = [type(cloud_of(node_spec(name, **{name: place}))) for name, place in PLACES.items()]

    assert found == [AwsCloud, GcpCloud, AzureCloud]
    assert isinstance(cloud_of(node_spec("local")), LocalCloud)


@pytest.mark.parametrize("cloud", PLACES)
def test_a_file_that_does_not_say_where_in_its_cloud_is_refused(cloud: str) -> None:
    with pytest.raises(Refused, match=f"found no block {cloud}"):
        cloud_of(node_spec(cloud))


@pytest.mark.parametrize(
    ("cloud", "field", "value"),
    [
        ("aws", "region", "eu-central-1.evil.org/"),
        ("aws", "group", ""),
        ("gcp", "zone", "europe-west4-a/../.."),
        ("gcp", "project", "p?x=y"),
        ("azure", "subscription", "not-an-id"),
        ("azure", "scale_set", "a/b"),
        ("azure", "resource_group", "a b"),
    ],
)
def test_a_name_that_would_lead_a_request_elsewhere_is_refused(
    cloud: str, field: str, value: str
) -> None:
    with pytest.raises(ValidationError, match=field):
        node_spec(cloud, **{cloud: {**PLACES[cloud], field: value}})


def test_a_block_of_another_cloud_is_refused() -> None:
    with pytest.raises(ValidationError, match="gcp"):
        node_spec("aws", aws=PLACES["aws"], gcp=PLACES["gcp"])
