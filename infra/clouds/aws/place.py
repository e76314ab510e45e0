"""What all resources of a stack in AWS share: the provider, the order, names and tags."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import InvokeOutputOptions, Output, Resource, ResourceOptions

from infra.clouds.resources import Proof
from infra.plan.names import rented_name

# By these a sweep finds everything without Pulumi's state.
TAG_PROJECT, TAG_STACK, TAG_ID, TAG_ROLE = (
    "atoll:project",
    "atoll:stack",
    "atoll:stack-id",
    "atoll:role",
)
TAG_RETAIN = "atoll:retain"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The stack's identity, and the options that keep its order of creation and deletion."""

    project: str
    stack: str
    stack_id: Output[str]
    region: str
    account: Output[str]
    provider: aws.Provider
    proof: Proof

    def after(self, *resources: Resource) -> ResourceOptions:
        """Created after these and the proof, deleted before them.

        A name can't be had twice: what must be replaced goes before its successor comes.
        """
        return ResourceOptions(
            provider=self.provider,
            depends_on=[self.proof, *resources],
            delete_before_replace=True,
        )

    def asking(self) -> InvokeOutputOptions:
        """For what is only looked up."""
        return InvokeOutputOptions(provider=self.provider)

    def name(self, part: str = "") -> Output[str]:
        """Name of a thing of this stack."""
        return self.stack_id.apply(lambda stack_id: rented_name(stack_id, part))

    def path(self) -> Output[str]:
        """Where its roles are: IAM lists by path, and its roles can't be found by tag."""
        return self.stack_id.apply(lambda stack_id: f"/atoll/{stack_id}/")

    def tags(self, role: str) -> Mapping[str, Output[str] | str]:
        """On everything that takes tags."""
        return {
            "Name": self.name(role),
            TAG_PROJECT: self.project,
            TAG_STACK: self.stack,
            TAG_ID: self.stack_id,
            TAG_ROLE: role,
        }
