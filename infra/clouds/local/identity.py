"""Who may ask the endpoint: one key. Nodes need no identity of their own on one machine."""

from infra.clouds.local.place import Place
from infra.clouds.resources import ApiKey


def make_api_key(place: Place) -> ApiKey:
    """The endpoint's key."""
    return ApiKey("api-key", {"stack_id": place.stack_id}, place.after())
