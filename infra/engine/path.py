"""The first candidate: a `pulumi` that the user has installed."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from infra.engine.release import Engine, parse_version
from runtime.errors import Refused

HOST = "pulumi-language-python"
VERSION_S = 10.0  # longest that `pulumi version` may take


def engine_on_path(environ: Mapping[str, str], lowest: str, ours: Path) -> Engine:
    """The first `pulumi` on PATH that is new enough; raises Refused with what was found instead.

    Links into `ours`, the cache of fetched and built engines, are passed over: they may be of an
    older kit, and the cache is looked into anyway.
    """
    said = []
    for pulumi in _named("pulumi", environ):
        if pulumi.resolve().is_relative_to(ours.resolve()):
            continue
        try:
            version = engine_version(pulumi, environ)
        except Refused as fault:
            said.append(str(fault))
            continue
        if (parse_version(version) or (0, 0, 0)) < (parse_version(lowest) or (0, 0, 0)):
            said.append(f"{pulumi}: found {version}; allowed {lowest} or later")
        elif not _has_host(pulumi, environ):
            said.append(f"{pulumi}: found no {HOST} beside it nor on PATH")
        else:
            return Engine(pulumi=pulumi, version=version, origin="path")
    raise Refused("; ".join(said) or "there is none")


def engine_version(pulumi: Path, environ: Mapping[str, str]) -> str:
    """What `pulumi version` prints, without the v; raises Refused if it prints no version."""
    env = {**environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    try:
        ran = subprocess.run(
            [pulumi, "version"],
            env=env,
            capture_output=True,
            text=True,
            timeout=VERSION_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise Refused(f"{pulumi}: does not run: {fault}") from fault
    version = parse_version(ran.stdout)
    if ran.returncode != 0 or version is None:
        said = (ran.stderr or ran.stdout).strip().splitlines()
        raise Refused(f"{pulumi}: prints no version: {said[-1] if said else 'nothing'}")
    return ran.stdout.strip().removeprefix("v")


def _named(name: str, environ: Mapping[str, str]) -> Iterator[Path]:
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        found = shutil.which(name, path=folder) if folder else None
        if found is not None:
            yield Path(found).absolute()


def _has_host(pulumi: Path, environ: Mapping[str, str]) -> bool:
    """Pulumi looks on PATH, then beside its real executable."""
    beside = pulumi.resolve().parent / HOST
    return os.access(beside, os.X_OK) or any(_named(HOST, environ))
