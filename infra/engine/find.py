"""Which Pulumi engine is used: the one on PATH, else the release archive, else a build with Go."""

import os
import platform
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from infra.checkout import ROOT
from infra.engine.archive import fetch_archive
from infra.engine.cache import Report, cache_folder, cached_engine, keep, making
from infra.engine.go import GO_LOWEST
from infra.engine.go_build import build_with_go
from infra.engine.path import engine_on_path, engine_version
from infra.engine.release import (
    BY_HAND,
    VERSION,
    Engine,
    Origin,
    lowest_version,
    parse_version,
    platform_name,
)
from runtime.errors import Refused

# Fills a folder with `pulumi` and its Python language host, or raises Refused.
Maker = Callable[[Path], None]


def find_engine(
    report: Report, environ: Mapping[str, str] | None = None, root: Path = ROOT
) -> Engine:
    """The engine for this clone, fetched or built if need be; `report` gets lines of progress.

    A kept engine is linked as .venv/bin/pulumi, so that after `activate` the same one is typed by
    hand. Raises Refused with all that was tried.
    """
    env = os.environ if environ is None else environ
    lowest, cache = lowest_version(root / "Pulumi.yaml"), cache_folder(env)
    tried: list[str] = []
    try:
        engine = engine_on_path(env, lowest, cache)
    except Refused as fault:
        tried.append(f"pulumi on PATH: {fault}")
        engine = _kept_engine(cache, env, report, tried)
    _link(engine, root / ".venv" / "bin", cache)
    return engine


def _kept_engine(
    cache: Path, environ: Mapping[str, str], report: Report, tried: list[str]
) -> Engine:
    name = platform_name(platform.system(), platform.machine())
    folder = cache / f"{VERSION}-{name}"
    kept = cached_engine(folder)
    if kept is not None:
        return kept
    makers: list[tuple[str, Origin, Maker]] = [
        (
            "release archive",
            "archive",
            partial(fetch_archive, platform=name, environ=environ, report=report),
        ),
        ("build with Go", "built", partial(build_with_go, environ=environ, report=report)),
    ]
    with making(folder, report):
        kept = cached_engine(folder)  # somebody else may have made it while we waited
        if kept is not None:
            return kept
        for what, origin, make in makers:
            try:
                engine = keep(folder, origin, partial(_make_whole, make=make, environ=environ))
            except Refused as fault:
                tried.append(f"{what}: {fault}")
                report(f"Pulumi engine, {tried[-1]}")
            else:
                report(f"Pulumi {VERSION} is kept in {folder}")
                return engine
    raise Refused(
        "\n  ".join(["no Pulumi engine:", *tried])
        + f"\n  do: install Pulumi {VERSION} or later ({BY_HAND}) so that `pulumi version` works, "
        f"or Go {GO_LOWEST[0]}.{GO_LOWEST[1]} or later, then repeat"
    )


def _make_whole(folder: Path, make: Maker, environ: Mapping[str, str]) -> None:
    """A folder counts only if its `pulumi` runs and is the pinned version."""
    make(folder)
    found = engine_version(folder / "pulumi", environ)
    if parse_version(found) != parse_version(VERSION):
        raise Refused(f"found version {found} in it; allowed {VERSION}")


def _link(engine: Engine, programs: Path, cache: Path) -> None:
    """Keep .venv/bin/pulumi in step; what is not a link of ours is left alone."""
    link = programs / "pulumi"
    target = Path(os.readlink(link)) if link.is_symlink() else None
    is_ours = target is not None and (target.is_relative_to(cache) or not target.exists())
    if engine.origin == "path":
        if is_ours:
            link.unlink(missing_ok=True)
    elif target != engine.pulumi and programs.is_dir() and (is_ours or not os.path.lexists(link)):
        new = programs / f"pulumi.{os.getpid()}"
        new.symlink_to(engine.pulumi)
        new.replace(link)
