"""The policy pack: `pulumi preview --policy-pack infra/policy`, and the same with `up`."""

from pulumi_policy import PolicyPack

from infra.policy.pack import policies

PolicyPack("atoll", policies=policies())
