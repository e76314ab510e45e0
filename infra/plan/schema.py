"""What editors and readers know of a stack file, made from the spec: `python -m infra.plan.schema`.

The schema is for the whole `stacks/Pulumi.<stack>.yaml`; Pulumi's own keys and other packages'
settings pass. What only the plan can judge, such as settings that conflict, is not in it.
"""

import json
import sys
from pathlib import Path

from infra.plan.settings import NAMESPACE, Setting, at, part_at, settings
from infra.plan.spec import StackSpec

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMA = ROOT / "stacks" / "stack.schema.json"
PAGE = ROOT / "docs" / "reference" / "stack-file.md"

HEAD = """# The stack file

Made by `python -m infra.plan.schema` from `infra/plan/spec.py`; don't edit.

`stacks/Pulumi.<stack>.yaml`, one per stack; `stacks/Pulumi.local.yaml` is a working example. Every
setting may be left out, a part with all its settings too, but not its settings alone: Pulumi
refuses a key without a value. Editors that know `# yaml-language-server` complete and check it.

Write it by hand, or `pulumi config set --path atoll:training.nodes 3 -s local`. `atoll plan` shows
what would come of it and needs no engine. Whatever is wrong is refused before anything is changed,
all at once, each with its path, what was found, what is allowed and what to do.
"""


def schema() -> dict[str, object]:
    """JSON schema of a stack file (draft 7, which editors know best)."""
    spec = StackSpec.model_json_schema()
    parts = {f"{NAMESPACE}:{name}": part for name, part in spec["properties"].items()}
    config = {
        "type": "object",
        "description": "Settings of the stack; keys of other namespaces are Pulumi's.",
        "properties": parts,
        "propertyNames": {"anyOf": [{"enum": list(parts)}, {"not": {"pattern": f"^{NAMESPACE}:"}}]},
    }
    whole = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A stack of Atoll",
        "type": "object",
        "properties": {"config": config, "encryptionsalt": {"type": "string"}},
        "$defs": spec["$defs"],
    }
    return {key: _without_titles(value) for key, value in whole.items()}


def schema_text() -> str:
    """The file as committed."""
    return json.dumps(schema(), indent=2) + "\n"


def page() -> str:
    """The reference page."""
    parts: dict[str, list[Setting]] = {}
    for setting in settings():
        parts.setdefault(setting.path.rpartition(".")[0], []).append(setting)
    return "\n".join([HEAD, *(_table(path, rows) for path, rows in parts.items())])


def _table(path: str, rows: list[Setting]) -> str:
    head = [f"## `{at(path)}`", "", part_at(path).__doc__ or "", ""]
    columns = ["| setting | allowed | default | |", "|---|---|---|---|"]
    return "\n".join([*head, *columns, *map(_row, rows), ""])


def _row(setting: Setting) -> str:
    name = setting.path.rpartition(".")[2]
    default = f"`{setting.default}`" if setting.default else ""
    return f"| `{name}` | {setting.allowed} | {default} | {setting.description} |"


def _without_titles(value: object) -> object:
    """Pydantic gives every field its own name again as title; a field named title stays."""
    if isinstance(value, list):
        return [_without_titles(item) for item in value]
    if isinstance(value, dict):
        return {
            key: _without_titles(inner)
            for key, inner in value.items()
            if not (key == "title" and isinstance(inner, str))
        }
    return value


if __name__ == "__main__":
    for path, text in ((SCHEMA, schema_text()), (PAGE, page())):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
