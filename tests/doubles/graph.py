"""What a stack consists of, as text to read: types, names and inputs, without what is drawn anew.

Ids of the double become `<name of the resource>`, the stack's own id `ID`, the bundle's digest
`BUNDLE`; a boot text becomes its length in lines, since it has a golden text of its own.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence

import yaml

from infra.provider.wire import Value
from tests.doubles.strict_cloud import Stored

STACK_ID = re.compile(r"\batoll-([0-9a-f]{8})\b")
DIGEST = re.compile(r"\b[0-9a-f]{64}\b")


def graph_text(resources: Sequence[Stored]) -> str:
    """All resources of one stack that the engine has made, by type and name."""
    resources = [r for r in resources if r.urn]
    found = STACK_ID.search(" ".join(r.id for r in resources))
    assert found is not None, "no resource bears the stack's id"
    drawn = {r.id: f"<{_title(r)}>" for r in resources if found[1] not in r.id or ":" in r.id}
    words = {**drawn, found[1]: "ID"}
    marks = re.compile("|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)))

    def plain(value: Value) -> Value:
        if isinstance(value, str):
            return DIGEST.sub("BUNDLE", marks.sub(lambda hit: words[hit[0]], value))
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in sorted(value.items()) if item is not None}
        return [plain(item) for item in value] if isinstance(value, list) else value

    graph = {_title(r): plain(_told(r)) for r in sorted(resources, key=_title)}
    return yaml.safe_dump(graph, sort_keys=True, width=100, allow_unicode=True)


def _title(resource: Stored) -> str:
    name = resource.urn.rpartition("::")[2]
    return f"{resource.type.rpartition(':')[2]} {name}"


def _told(resource: Stored) -> dict[str, Value]:
    """Inputs, with texts that are documents opened."""
    return {key: _opened(key, value) for key, value in resource.inputs.items()}


def _opened(key: str, value: Value) -> Value:
    if key == "userData" and isinstance(value, str):
        return f"boot text of {len(base64.b64decode(value).splitlines())} lines"
    if key == "source":
        return "the bundle"
    if isinstance(value, str) and value.startswith("{"):
        opened: Value = json.loads(value)
        return opened
    return value
