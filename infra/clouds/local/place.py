"""What all resources of a stack on one machine share."""

from collections.abc import Mapping
from dataclasses import dataclass

from pulumi import Output, Resource, ResourceOptions

from infra.checkout import home
from infra.clouds.resources import AtollProvider, Proof


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The stack's identity, and the options that keep its order of creation and deletion."""

    stack: str
    stack_id: Output[str]
    provider: AtollProvider
    proof: Proof

    def after(self, *resources: Resource) -> ResourceOptions:
        """Created after these and the proof, deleted before them."""
        return ResourceOptions(provider=self.provider, depends_on=[self.proof, *resources])

    def inputs(self) -> Mapping[str, object]:
        """Inputs that every resource of the place has."""
        return {"home": str(home()), "stack": self.stack, "stack_id": self.stack_id}
