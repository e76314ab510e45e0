"""What no stack may be: each rule by the clouds' tables of type tokens. Pure.

A rule says nothing of a type that no table names, but for tags; another cloud is another table.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from infra.plan.names import NODES_MAX
from infra.policy import aws
from infra.policy.values import UNKNOWN, Properties

POOL_NODES_MAX = NODES_MAX + 1  # one more while a pool rolls

Check = Callable[[Properties], Iterator[str]]
Faults = Callable[[str, Properties], Iterator[str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """Asked of each resource by itself."""

    name: str
    says: str
    faults: Faults


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """A resource among the others of its stack."""

    urn: str
    token: str
    properties: Properties
    uses: Mapping[str, Sequence[str]] = field(default_factory=dict)  # property: URNs
    is_protected: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class StackRule:
    """Asked once, of all resources together."""

    name: str
    says: str
    faults: Callable[[Sequence[Declared]], Iterator[tuple[Declared, str]]]


def by_type(*tables: Mapping[str, Check]) -> Faults:
    """The check of a resource's type, if a table has one."""

    def faults(token: str, properties: Properties) -> Iterator[str]:
        for table in tables:
            if token in table:
                yield from table[token](properties)

    return faults


def tag_faults(token: str, properties: Properties) -> Iterator[str]:
    """Without the kit's tags a sweep finds it not, and its costs belong to nobody."""
    if token.startswith("aws:"):
        yield from aws.tag_faults(token, properties)


def node_faults(
    token: str, properties: Properties, nodes_max: int = POOL_NODES_MAX
) -> Iterator[str]:
    """A slip of the keyboard rents no thousand machines."""
    for name in aws.SIZES.get(token, ()):
        nodes = properties.get(name)
        if isinstance(nodes, int | float) and nodes > nodes_max:
            yield (
                f"{name}: found {nodes:g}; allowed 0 to {nodes_max}; lower it, or raise nodes_max "
                "in the pack's configuration"
            )


def _each_has(name: str, says: str, of: Sequence[str], companions: Sequence[str]) -> StackRule:
    """Each resource of some types has another one that is set on its bucket."""

    def faults(resources: Sequence[Declared]) -> Iterator[tuple[Declared, str]]:
        beside = [each for each in resources if each.token in companions]
        named = {each.properties.get("bucket") for each in beside} - {None, UNKNOWN}
        used = {urn for each in beside for urn in each.uses.get("bucket", ())}
        for each in resources:
            is_named = each.properties.get("bucket") in named
            if each.token in of and each.urn not in used and not is_named:
                kind = companions[0].rpartition(":")[2]
                yield each, f"{kind}: found none; allowed one for each bucket; add it"

    return StackRule(name=name, says=says, faults=faults)


def _protected(resources: Sequence[Declared]) -> Iterator[tuple[Declared, str]]:
    for each in resources:
        if each.is_protected:
            yield each, "protect: found true; allowed false; `destroy` would stop at it: remove it"


RULES = (
    Rule(
        name="no-public-store",
        says="Nobody reads or writes a store by being anybody.",
        faults=by_type(aws.PUBLIC_STORE),
    ),
    Rule(
        name="no-open-port",
        says="Everybody reaches the balancer's port 443 alone.",
        faults=by_type(aws.OPEN_PORT),
    ),
    Rule(
        name="encrypted",
        says="What is stored is encrypted.",
        faults=by_type(aws.ENCRYPTION),
    ),
    Rule(
        name="credentials-stay-on-the-node",
        says="A node's credentials are given by sessions only, and to the node itself.",
        faults=by_type(aws.METADATA),
    ),
    Rule(
        name="no-public-node",
        says="Nodes have no public address.",
        faults=by_type(aws.PUBLIC_ADDRESS),
    ),
    Rule(name="tagged", says="Whatever takes tags has the kit's.", faults=tag_faults),
    Rule(
        name="no-wildcard-right",
        says="Rights name their actions and things, and trust names its principals.",
        faults=by_type(aws.RIGHTS),
    ),
    Rule(
        name="no-undeletable",
        says="`destroy` can remove whatever `up` has made.",
        faults=by_type(aws.UNDELETABLE),
    ),
)
STACK_RULES = (
    _each_has(
        "stores-are-closed",
        "Each store has its own block of public access.",
        aws.BUCKETS,
        aws.CLOSERS,
    ),
    _each_has(
        "stores-are-encrypted",
        "Each store says how it encrypts.",
        aws.BUCKETS,
        aws.ENCRYPTERS,
    ),
    StackRule(
        name="no-protected",
        says="`destroy` can remove whatever `up` has made.",
        faults=_protected,
    ),
)
