"""Makes docs/reference/cli.md from the commands and the shapes: `python -m infra.cli.reference`."""

import sys
import types
from collections.abc import Iterator
from typing import Union, get_args, get_origin

from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from infra.checkout import ROOT
from infra.cli import shapes
from infra.cli.main import app

PAGE = ROOT / "docs" / "reference" / "cli.md"

# What each command prints with --json.
ANSWERS: dict[str, type[shapes.Shape]] = {
    "atoll up": shapes.UpShape,
    "atoll down": shapes.DownShape,
    "atoll status": shapes.StatusShape,
    "atoll plan": shapes.PlanShape,
    "atoll doctor": shapes.DoctorShape,
    "atoll sweep": shapes.SweepShape,
    "atoll ask": shapes.AnswerShape,
    "atoll reclaim": shapes.ReclaimShape,
    "atoll runs list": shapes.RunsShape,
    "atoll runs show": shapes.RunDetail,
    "atoll runs start": shapes.RunStarted,
    "atoll runs resume": shapes.RunStarted,
    "atoll runs stop": shapes.RunStopped,
    "atoll models list": shapes.ModelsShape,
}

HEAD = """# `atoll`

Made by `python -m infra.cli.reference` from the commands themselves; don't edit.

Exit status: 0 done, 1 a fault (one sentence on standard error) or what the command says below,
2 wrong usage. With `--json` standard output holds one JSON value and nothing else; its fields are
stable: more may come, none is renamed.
"""


def page() -> str:
    """The whole page."""
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    parts = [HEAD, *(_command(path, command) for path, command in _commands("atoll", root))]
    parts.append("## Shapes\n\nWhat the fields of the answers above hold.\n")
    parts += [_shape(shape) for shape in _used_shapes()]
    return "\n".join(parts)


def _commands(path: str, group: TyperGroup) -> Iterator[tuple[str, TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(f"{path} {name}", command)
        elif isinstance(command, TyperCommand):
            yield f"{path} {name}", command


def _command(path: str, command: TyperCommand) -> str:
    rows = [
        f"| `{_spelling(parameter)}` | {_help(parameter)} |"
        for parameter in command.params
        if parameter.name != "help"
    ]
    lines = [f"## `{path}`", "", command.help or "", "", "| | |", "|---|---|", *rows, ""]
    lines += [f"`--json`: [{ANSWERS[path].__name__}](#{ANSWERS[path].__name__.lower()})", ""]
    return "\n".join(lines)


def _spelling(parameter: object) -> str:
    if isinstance(parameter, TyperOption):
        return ", ".join(reversed(parameter.opts))
    return str(getattr(parameter, "human_readable_name", "")).upper()


def _help(parameter: object) -> str:
    text = str(getattr(parameter, "help", "") or "")
    default = getattr(parameter, "default", None)
    if isinstance(default, bool) or default is None or not isinstance(default, str | int):
        return text
    return f"{text} Default: `{default}`."


def _used_shapes() -> list[type[shapes.Shape]]:
    """The answers and what they are made of, each once, in the order of the commands."""
    found: dict[type[shapes.Shape], None] = {}

    def take(shape: type[shapes.Shape]) -> None:
        if shape not in found:
            found[shape] = None
            for field in shape.model_fields.values():
                for inner in _inner_shapes(field.annotation):
                    take(inner)

    for answer in ANSWERS.values():
        take(answer)
    return list(found)


def _inner_shapes(annotation: object) -> Iterator[type[shapes.Shape]]:
    if isinstance(annotation, type) and issubclass(annotation, shapes.Shape):
        yield annotation
    for argument in get_args(annotation):
        yield from _inner_shapes(argument)


def _shape(shape: type[shapes.Shape]) -> str:
    rows = [
        f"| `{name}` | {_type(field.annotation)} | {field.description} |"
        for name, field in shape.model_fields.items()
    ]
    head = [f"### {shape.__name__}", "", shape.__doc__ or "", "", "| field | type | |"]
    return "\n".join([*head, "|---|---|---|", *rows, ""])


def _type(annotation: object) -> str:
    """A JSON type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(argument) for argument in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return "object"
    if isinstance(annotation, type) and issubclass(annotation, shapes.Shape):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    names = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
    return names.get(annotation, "string") if isinstance(annotation, type) else "string"


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}\n")
