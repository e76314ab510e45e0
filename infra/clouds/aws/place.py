"""What all resources of a stack in AWS share: the provider, the order, names and tags."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import InvokeOutputOptions, Output, Resource, ResourceOptions

from infra.clouds.aws.rights import group_arn, logs_arn
from infra.clouds.aws.tags import TAG_ID, TAG_PROJECT, TAG_ROLE, TAG_STACK
from infra.clouds.resources import AtollProvider, Proof
from infra.plan.names import rented_name


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The stack's identity, and the options that keep its order of creation and deletion."""

    project: str
    stack: str
    stack_id: Output[str]
    region: str
    account: Output[str]
    provider: aws.Provider
    own: AtollProvider
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

    def after_ours(self, *resources: Resource) -> ResourceOptions:
        """The same for a resource of the kit's own provider."""
        return ResourceOptions(provider=self.own, depends_on=[self.proof, *resources])

    def asking(self) -> InvokeOutputOptions:
        """For what is only looked up."""
        return InvokeOutputOptions(provider=self.provider)

    def name(self, part: str = "") -> Output[str]:
        """Name of a thing of this stack."""
        return self.stack_id.apply(lambda stack_id: rented_name(stack_id, part))

    def group_arn(self, pool: str) -> Output[str]:
        """Of a pool's Auto Scaling group, which need not be there yet."""
        return Output.all(self.account, self.name(pool)).apply(
            lambda a: group_arn(self.region, a[0], a[1])
        )

    def logs_arn(self) -> Output[str]:
        """Of the streams of its log group."""
        return Output.all(self.account, self.stack_id).apply(lambda a: logs_arn(self.region, *a))

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
