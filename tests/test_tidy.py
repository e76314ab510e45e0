"""House rules that a reviewer should not have to remember: arrows, sizes, bans, dead files."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
LINE_CHARACTERS_MAX = 2000

# Who may import whom, room by room; the first that fits a module is its room.
RUNTIME_FOR_INFRA = {
    "runtime.node_spec",
    "runtime.errors",
    "runtime.limits",
    "runtime.objects",
    "runtime.registry",
    "runtime.checkpoint",
    "runtime.coordination.log",
    "runtime.coordination.phases",
    "runtime.signals",
    "runtime.coordination.ticks",
    "runtime.clouds",
}
ARROWS: dict[str, set[str]] = {
    "infra.__main__": {"infra.config", "infra.plan", "infra.clouds", "runtime.errors"},
    "infra.plan": {"runtime.node_spec", "runtime.errors", "runtime.limits"},
    "infra.checkout": set(),
    "infra.bundle": {"runtime.errors", "runtime.limits", "runtime.text_files"},
    "infra.config": {"infra.plan"},
    "infra.policy": {"infra.plan.names"},  # each preview waits for the pack to start
    "infra.clouds.local": {
        *("infra.clouds", "infra.plan", "infra.checkout", "infra.bundle"),
        *("runtime.clouds", "runtime.errors", "runtime.limits", "runtime.node_spec"),
        "runtime.objects",
    },
    "infra.clouds.aws": {
        *("infra.clouds", "infra.plan", "infra.checkout", "infra.bundle"),
        "infra.engine.set_up",  # the installer, as the lock pins it
        "infra.engine.broken_off",  # what a killed update may have made
        *("runtime.errors", "runtime.limits", "runtime.node_spec", "runtime.objects"),
    },
    "infra.clouds": {
        *("infra.plan", "infra.checkout", "infra.bundle"),
        *("runtime.errors", "runtime.objects", "runtime.node_spec"),
        "infra.engine.broken_off",  # what a killed update may have made
    },
    "infra.provider": {
        *("infra.clouds", "infra.plan", "infra.checkout", "infra.bundle"),
        *RUNTIME_FOR_INFRA,
    },
    "infra.engine": {"infra.plan", "infra.checkout", "runtime.errors", "runtime.signals"},
    "infra.cli": {
        *("infra.engine", "infra.clouds", "infra.config", "infra.plan", "infra.checkout"),
        *RUNTIME_FOR_INFRA,
    },
    "runtime.errors": set(),
    "runtime.limits": set(),
    "runtime.lines": set(),
    "runtime.packing": set(),
    "runtime.text_files": {"runtime.errors"},
    "runtime.signals": set(),
    "runtime.node_spec": {"runtime.limits"},
    "runtime.objects": {"runtime.errors", "runtime.limits"},
    "runtime.clouds": {"runtime.errors", "runtime.limits", "runtime.node_spec"},
    "runtime.coordination": {
        *("runtime.objects", "runtime.errors", "runtime.limits", "runtime.node_spec"),
    },
    "runtime.checkpoint": {
        *("runtime.objects", "runtime.errors", "runtime.limits", "runtime.lines"),
        *("runtime.node_spec", "runtime.packing"),
    },
    "runtime.registry": {"runtime.coordination", "runtime.objects", "runtime.errors"},
    "runtime.model": {"runtime.errors"},
    "runtime.role": {
        *("runtime.coordination", "runtime.objects", "runtime.node_spec", "runtime.errors"),
    },
    "runtime.node": {
        *(
            "runtime.clouds",
            "runtime.role",
            "runtime.coordination",
            "runtime.objects",
            "runtime.errors",
        ),
        *("runtime.limits", "runtime.node_spec", "runtime.signals"),
    },
    "runtime.train": {
        *("runtime.role", "runtime.model", "runtime.checkpoint", "runtime.registry"),
        *("runtime.coordination", "runtime.clouds", "runtime.objects", "runtime.errors"),
        *("runtime.limits", "runtime.lines", "runtime.node_spec", "runtime.packing"),
        "runtime.text_files",
    },
    "runtime.serve": {
        *("runtime.role", "runtime.model", "runtime.registry", "runtime.coordination"),
        *("runtime.objects", "runtime.errors", "runtime.limits", "runtime.lines"),
        "runtime.node_spec",
    },
}
# A pure room decides: it asks no clock, no environment, no SDK.
PURE = (
    "infra.plan",
    *(f"infra.policy.{name}" for name in ("rules", "aws", "documents", "values")),
    "runtime.node_spec",
    "runtime.coordination.membership",
    "runtime.coordination.next_epoch",
    "runtime.serve.states",
)
IMPURE = {"os", "time", "random", "secrets", "socket", "subprocess", "pulumi", "torch", "boto3"}
NO_TORCH = ("infra", *sorted(RUNTIME_FOR_INFRA), "runtime.node", "runtime.checkpoint")
BANNED_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
BANNED_CALLS = {"torch.load", "torch.save", "eval", "exec", "yaml.load", "os.system"}
# Started by name, not imported.
PROGRAMS = {
    "infra.clouds.aws.deployer",
    "infra.__main__",
    "infra.cli.main",
    "infra.cli.reference",
    "infra.engine.__main__",
    "infra.engine.host",
    "infra.engine.program",
    "infra.engine.set_up",
    "infra.plan.schema",
    "infra.policy.__main__",
    "infra.provider.balancer_keeper",
    "infra.provider.keeper",
    "infra.provider.main",
    "runtime.node",
}
CLOUD_MODULE = re.compile(r"infra\.clouds\.\w+\.")
LEFT_MARKS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
# Nobody's machine and nobody's registry stands in the repository.
FOREIGN = re.compile(
    r"(?<![\w.])/root/|/home/\w+/|https?://\S*(pypi|pythonhosted|golang|npmjs|crates|maven)\S*"
)


def modules() -> dict[str, Path]:
    """All modules of both packages, by their dotted names."""
    paths = [p for package in ("infra", "runtime") for p in (ROOT / package).rglob("*.py")]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(paths)
    }


MODULES = modules()
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def imports(name: str) -> Iterator[str]:
    """What a module imports, as modules where they are ours."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: imports are written out in full"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else str(node.module)


def is_in(name: str, room: str) -> bool:
    """Whether a module is a room or stands in it."""
    return name == room or name.startswith(f"{room}.")


def room_of(name: str) -> str | None:
    """The most precise room of a module."""
    return max((room for room in ARROWS if is_in(name, room)), key=len, default=None)


def tracked() -> list[str]:
    """All files of the repository, also new ones."""
    ran = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in ran.stdout.splitlines() if (ROOT / name).is_file()]


def test_arrows_point_down() -> None:
    wrong = []
    for name in MODULES:
        room = room_of(name)
        if room is None:
            assert name in ("infra", "runtime"), f"{name} has no room"
            continue
        for target in imports(name):
            if target.split(".")[0] not in ("infra", "runtime") or is_in(target, room):
                continue
            if not any(is_in(target, allowed) for allowed in ARROWS[room]):
                wrong.append(f"{name} imports {target}")

    assert wrong == []


def test_clouds_do_not_know_each_other() -> None:
    for name in MODULES:
        if CLOUD_MODULE.match(name):
            own = name.split(".")[2]
            others = [
                t for t in imports(name) if t.startswith("infra.clouds.") and t.count(".") > 2
            ]
            assert all(t.split(".")[2] == own for t in others), name


def test_there_are_no_circles() -> None:
    edges = {name: {t for t in imports(name) if t in MODULES} for name in MODULES}
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for target in sorted(edges[name] - {name}):
                walk(target, (*path, name))
            done.add(name)

    for name in MODULES:
        walk(name, ())


def test_pure_rooms_ask_nobody() -> None:
    wrong = [
        f"{name} imports {target}"
        for name in MODULES
        if any(is_in(name, room) for room in PURE)
        for target in imports(name)
        if target.split(".")[0] in IMPURE
    ]

    assert wrong == []


def test_the_operators_side_and_the_agents_need_no_torch() -> None:
    wrong = [
        name
        for name in MODULES
        if any(is_in(name, room) for room in NO_TORCH)
        and any(target.split(".")[0] == "torch" for target in imports(name))
    ]

    assert wrong == []


def test_modules_and_functions_are_short() -> None:
    long_modules = [
        name for name, path in MODULES.items() if path.read_text().count("\n") > MODULE_LINES_MAX
    ]
    long_functions = [
        f"{name}.{node.name}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES_MAX
    ]

    assert long_modules == []
    assert long_functions == []


def test_every_module_and_public_thing_says_what_it_is() -> None:
    mute = []
    for name, tree in TREES.items():
        if MODULES[name].read_text().strip() and not ast.get_docstring(tree):
            mute.append(name)
        for node in ast.iter_child_nodes(tree):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                continue
            if not node.name.startswith("_") and not ast.get_docstring(node):
                mute.append(f"{name}.{node.name}")

    assert mute == []


def test_nothing_in_infra_hides_a_module_of_the_standard_library() -> None:
    stems = {path.stem for name, path in MODULES.items() if is_in(name, "infra")}

    assert stems & (sys.stdlib_module_names - {"__main__"}) == set()


def test_nobody_imports_a_module_of_infra_by_its_bare_name() -> None:
    # `main: infra/` puts that folder on the path: `import plan` would make a second module of it.
    bare = {path.stem for path in (ROOT / "infra").iterdir() if path.suffix in ("", ".py")}
    wrong = [
        f"{name} imports {target}"
        for name in MODULES
        for target in imports(name)
        if target.split(".")[0] in bare - {"__init__", "__main__", "__pycache__"}
    ]

    assert wrong == []


def test_no_pickle_and_no_call_that_runs_what_it_reads() -> None:
    wrong = []
    for name, tree in TREES.items():
        wrong += [f"{name}: {t}" for t in imports(name) if t.split(".")[0] in BANNED_IMPORTS]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in BANNED_CALLS:
                wrong.append(f"{name}:{node.lineno} {ast.unparse(node.func)}")

    assert wrong == []


def test_no_module_is_dead() -> None:
    used = {target for name in MODULES for target in imports(name)}
    named = "\n".join(
        (ROOT / name).read_text() for name in ("pyproject.toml", "Makefile", "Pulumi.yaml")
    )
    texts = {
        node.value
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    dead = [
        name
        for name, path in MODULES.items()
        if path.name != "__init__.py" and name not in used | texts | PROGRAMS and name not in named
    ]

    assert dead == []
    assert set(MODULES) >= PROGRAMS


def test_no_file_holds_leftovers_or_anything_of_a_machine() -> None:
    wrong = []
    for name in set(tracked()) - {"tests/test_tidy.py"}:
        try:
            lines = (ROOT / name).read_text().splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, start=1):
            if len(line) < LINE_CHARACTERS_MAX and (
                LEFT_MARKS.search(line) or FOREIGN.search(line)
            ):
                wrong.append(f"{name}:{number}: {line.strip()}")

    assert wrong == []


def test_every_locked_package_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    wanted += (ROOT / "runtime" / "requirements.in").read_text().splitlines()
    names = {
        re.split(r"[<>=\[ ;]", line)[0] for line in wanted if line and not line.startswith("#")
    }
    reasons = (ROOT / "docs" / "decisions" / "0005-dependencies.md").read_text()

    assert {
        name for name in names if name not in reasons and not name.startswith("types-")
    } == set()
