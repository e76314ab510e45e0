"""The rules as Pulumi's policies: all mandatory, asked of inputs at preview and again by `up`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyConfigSchema,
    PolicyResource,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError

from infra.policy.rules import (
    POOL_NODES_MAX,
    RULES,
    STACK_RULES,
    Declared,
    Rule,
    StackRule,
    node_faults,
)
from infra.policy.values import UNKNOWN

MANDATORY = EnforcementLevel.MANDATORY


def policies() -> list[Policy]:
    """All of the pack."""
    return [
        *(_of_resource(rule) for rule in RULES),
        _of_nodes(),
        *(_of_stack(rule) for rule in STACK_RULES),
    ]


def plain(properties: Mapping[str, object]) -> dict[str, object]:
    """As rules read them: Pulumi's own view raises at what is not known yet."""
    return {name: _known(partial(properties.__getitem__, name)) for name in properties}


def _known(read: Callable[[], object]) -> object:
    try:
        value = read()
    except UnknownValueError:
        return UNKNOWN
    if isinstance(value, Mapping):
        return plain(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_known(partial(value.__getitem__, index)) for index in range(len(value))]
    return value


def _of_resource(rule: Rule) -> Policy:
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        for fault in rule.faults(args.resource_type, plain(args.props)):
            report(fault, None)

    return ResourceValidationPolicy(rule.name, rule.says, validate, MANDATORY)


def _of_nodes() -> Policy:
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        nodes_max = int(args.get_config().get("nodes_max", POOL_NODES_MAX))
        for fault in node_faults(args.resource_type, plain(args.props), nodes_max):
            report(fault, None)

    nodes_max = {
        "type": "integer",
        "minimum": 1,
        "default": POOL_NODES_MAX,
        "description": "Most nodes of one pool, with the one more that it has while it rolls.",
    }
    return ResourceValidationPolicy(
        "few-nodes",
        "A pool stays within its cap.",
        validate,
        MANDATORY,
        PolicyConfigSchema({"nodes_max": nodes_max}),
    )


def _of_stack(rule: StackRule) -> Policy:
    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        for each, fault in rule.faults([_declared(resource) for resource in args.resources]):
            report(fault, each.urn)

    return StackValidationPolicy(rule.name, rule.says, validate, MANDATORY)


def _declared(resource: PolicyResource) -> Declared:
    return Declared(
        urn=resource.urn,
        token=resource.resource_type,
        properties=plain(resource.props),
        uses={
            name: [used.urn for used in resources]
            for name, resources in resource.property_dependencies.items()
        },
        is_protected=resource.opts.protect,
    )
