"""What an IAM document gives to whom: its wildcards. Pure.

A wildcard within the path of an ARN is none: the keys of one store have a common beginning.
"""

import json
import re
from collections.abc import Iterator, Mapping

from infra.policy.values import UNKNOWN, items, texts

# Which would be everything but what is named.
REVERSED = ("NotAction", "NotResource", "NotPrincipal")
ALL_OF_A_KIND = re.compile(r"[^/:]*[/:][*?/:]*")  # `role/*`; of S3 the kind is a name
OPEN = re.compile(r"(.*/)?(AdministratorAccess|PowerUserAccess|\w+FullAccess)")  # of AWS's own


def document_faults(where: str, document: object) -> Iterator[str]:
    """Of a policy or a trust policy, as JSON text or as what such text stands for."""
    if document is UNKNOWN or document is None:
        return
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except json.JSONDecodeError:
            yield f"{where}: found no JSON; allowed an IAM document; correct it"
            return
    found = document.get("Statement") if isinstance(document, Mapping) else None
    for index, statement in enumerate([found] if isinstance(found, Mapping) else items(found)):
        if isinstance(statement, Mapping) and statement.get("Effect") == "Allow":
            yield from _statement_faults(f"{where}.Statement[{index}]", statement)


def principal_faults(where: str, document: object) -> Iterator[str]:
    """Of a bucket's policy only this: what it gives, and on what, is that bucket alone."""
    for fault in document_faults(where, document):
        if "Principal" in fault or "JSON" in fault:
            yield fault


def attachment_faults(where: str, arns: object) -> Iterator[str]:
    """Of AWS's own policies those that give all of a service, or of all of them."""
    for arn in texts(arns):
        if OPEN.fullmatch(arn.rpartition(":policy/")[2]):
            yield f"{where}: found {arn}; allowed policies that name their actions; write one"


def _statement_faults(where: str, statement: Mapping[object, object]) -> Iterator[str]:
    for key in REVERSED:
        if key in statement:
            named = key.removeprefix("Not")
            yield f"{where}: found {key} in an Allow; allowed {named}; name what is meant"
    for action in texts(statement.get("Action")):
        if "*" in action:
            yield f"{where}.Action: found {action}; allowed actions in full; name those in use"
    for resource in texts(statement.get("Resource")):
        if _is_everything(resource):
            yield f"{where}.Resource: found {resource}; allowed ARNs with a name; name what is used"
    principal = statement.get("Principal")
    for kind, names in (principal if isinstance(principal, Mapping) else {"": principal}).items():
        for name in texts(names):
            if "*" in name:
                at = f"{where}.Principal.{kind}".rstrip(".")
                yield f"{at}: found {name}; allowed principals by name; name who it is"


def _is_everything(arn: str) -> bool:
    parts = arn.split(":", 5)
    if len(parts) < 6:
        return "*" in arn
    _, _, service, _, _, rest = parts
    is_all = not rest.strip("*?/:") or (service != "s3" and ALL_OF_A_KIND.fullmatch(rest))
    return "*" in service or bool(is_all)
