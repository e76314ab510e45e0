"""Machines that execute a boot text, offline, as root in namespaces of their own.

The very bytes run: names and addresses are those of AWS. Inside a machine s3.REGION.amazonaws.com
stands in /etc/hosts, its certificate is signed by an authority that the machine trusts, metadata is
at 169.254.169.254, and packages come from this user's uv cache, since /etc/uv/uv.toml says so.
Only `systemctl` and `shutdown` are stand-ins. Needs Linux, root, iproute2 and util-linux.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.engine.set_up import pinned
from tests.conftest import ROOT
from tests.doubles import rehearsal_sky as sky
from tests.doubles.rehearsal_store import RoleStore
from tests.doubles.wires import PREFIX, Wires, wired

DOUBLES = Path(__file__).parent
PYTHON = "/usr/bin/python3"  # of the machines: the system's own, as on an image
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
WAIT_S = 300.0
SAID_MAX = 4000  # characters of one machine
LOOK_S = 0.05


def until(is_so: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait for a fact; says what did not come true."""
    end = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < end, f"not within {WAIT_S:g} s: {what()}"
        time.sleep(LOOK_S)


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """One that has been switched on, and the folder that it shares with the test."""

    index: int
    shared: Path
    within: tuple[str, ...]  # the words before a command that runs in its network
    process: subprocess.Popen[bytes]
    sky: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        """On the wire to the others."""
        return address(self.index)

    @property
    def instance(self) -> str:
        """Its id, as metadata tells it."""
        return instance(self.index)

    @property
    def console(self) -> str:
        """All that the boot has said."""
        return self._read("console")

    @property
    def unit(self) -> str:
        """All that the unit has said."""
        return self._read("unit")

    @property
    def orders(self) -> list[tuple[int, str]]:
        """What Auto Scaling was asked: the status of its answer, and the form."""
        return [tuple(json.loads(line)) for line in self._read("orders").splitlines()]

    @property
    def status(self) -> int | None:
        """Exit status of the boot text; None while it runs."""
        found = self._read("status")
        return int(found) if found else None

    @property
    def is_off(self) -> bool:
        """Whether it has been told to go off."""
        return (self.shared / "off").exists()

    def booted(self) -> int:
        """Wait for the end of the boot text; its exit status."""
        until(
            lambda: self.status is not None or self.process.poll() is not None,
            lambda: f"it has booted: {self.console}",
        )
        assert self.status is not None, self.console
        return self.status

    def run(self, *command: str) -> str:
        """What a command says that runs inside, as root."""
        pid = self.process.pid
        (inner,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        enter = ["nsenter", f"--target={inner}", "--mount", "--pid", "--uts", "--net"]
        return subprocess.run(
            [*enter, *command], capture_output=True, text=True, check=True
        ).stdout.strip()

    def ask(self, url: str, *more: str) -> str:
        """An answer over the machine's network; empty if there is none."""
        command = [*self.within, "curl", "-s", "--max-time", "60", *more, url]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def close(self) -> None:
        """Switch it off, as a plug is pulled."""
        for process in (self.process, self.sky):
            process.kill()
            process.wait()

    def _read(self, name: str) -> str:
        path = self.shared / name
        return path.read_text(errors="replace") if path.exists() else ""


@dataclass
class Region:
    """A store, wires, and the machines on them."""

    folder: Path
    store: RoleStore
    wires: Wires
    wheels: Path  # holds uv's
    machines: list[Machine] = field(default_factory=list)

    def boot(
        self,
        text: str,
        *,
        may: str,  # the role in the store whose keys metadata gives out
        has_metadata: bool = True,
        has_group: bool = True,
        files: Mapping[str, str] | None = None,  # by path below /
    ) -> Machine:
        """Switch the next machine on."""
        index = len(self.machines)
        shared = self.folder / f"machine-{index}"
        (shared / "top").mkdir(parents=True)
        (shared / "user-data").write_text(text)
        (shared / "hostname").write_text("ip-" + address(index).replace(".", "-"))
        lay_tree(shared / "tree", self.folder, self.wheels)
        for name, content in (files or {}).items():
            path = shared / "tree" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            path.chmod(0o755)
        told = sky.Sky(
            folder=str(shared),
            instance=instance(index),
            address=address(index),
            keys=self.store.keys(may),
            socket=self.store.socket,
            certificate=str(self.folder / "server.pem"),
            has_metadata=has_metadata,
            has_group=has_group,
        )
        (shared / "sky.json").write_text(json.dumps(told._asdict()))
        above = self._start(
            index, [sys.executable, "-m", sky.__name__, str(shared / "sky.json")], "sky-said"
        )
        until(
            lambda: (shared / "sky").exists() or above.poll() is not None, lambda: "there is a sky"
        )
        assert above.poll() is None, (shared / "sky-said").read_text()
        apart = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
        script = ["bash", str(DOUBLES / "rehearsal_machine.sh"), str(shared), uv_cache()]
        machine = Machine(
            index=index,
            shared=shared,
            within=self.wires.within(index),
            process=self._start(index, [*apart, *script], "machine-said"),
            sky=above,
        )
        self.machines.append(machine)
        return machine

    @property
    def said(self) -> str:
        """By all that runs, at its end."""
        return "\n".join(
            f"== {m.instance}\n{m.console[-SAID_MAX:]}\n{m.unit[-SAID_MAX:]}" for m in self.machines
        )

    def close(self) -> None:
        """Switch all off."""
        for machine in self.machines:
            machine.close()

    def _start(self, index: int, command: list[str], said: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"machine-{index}" / said).open("wb") as out:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self.wires.within(index), *command],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )


@contextmanager
def region(machines: int, store: RoleStore) -> Iterator[Region]:
    """Room for so many machines; raises OSError where there can be no namespaces."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="atoll-region-")))
        wires = stack.enter_context(wired(machines))
        make_certificate(folder, [sky.host(name) for name in ("s3", "autoscaling")])
        wheels = fetch_packages()
        region = Region(folder=folder, store=store, wires=wires, wheels=wheels)
        stack.callback(region.close)
        yield region


def address(index: int) -> str:
    """Of a machine, on the wire to the others."""
    return f"{PREFIX}.{10 + index}"


def instance(index: int) -> str:
    """The id of a machine."""
    return f"i-{index:017x}"


def lay_tree(tree: Path, authority: Path, wheels: Path) -> None:
    """The files that a machine has in place of its host's."""
    hosts = ((sky.S3, "s3"), (sky.AUTOSCALING, "autoscaling"))
    ca = f"{AUTHORITIES.read_text()}\n{(authority / 'authority.pem').read_text()}"
    texts = {
        "etc/hosts": "".join(f"{ip} {sky.host(name)}\n" for ip, name in hosts),
        "etc/pip.conf": "[global]\nno-index = true\nfind-links = /mnt/wheels\n",
        "etc/uv/uv.toml": 'offline = true\ncache-dir = "/var/cache/uv"\nlink-mode = "symlink"\n',
        str(AUTHORITIES.relative_to("/")): ca,
    }
    for name, text in texts.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    programs = tree / "usr" / "local" / "sbin"
    programs.mkdir(parents=True)
    shutil.copy(DOUBLES / "rehearsal_systemctl.py", programs / "systemctl")
    (programs / "systemctl").chmod(0o755)
    shutil.copytree(wheels, tree / "mnt" / "wheels")


def make_certificate(folder: Path, names: list[str]) -> None:
    """`authority.pem`, and `server.pem` for these names with its key."""
    names_of = ",".join(f"DNS:{name}" for name in names)
    make = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-days", "2"]
    make += ["-pkeyopt", "ec_paramgen_curve:P-256"]
    own = ["-keyout", "authority.key", "-out", "authority.pem", "-subj", "/CN=rehearsal"]
    by = ["-CA", "authority.pem", "-CAkey", "authority.key", "-subj", f"/CN={names[0]}"]
    by += ["-addext", f"subjectAltName={names_of}", "-addext", "basicConstraints=CA:FALSE"]
    for more in (own, [*by, "-keyout", "server.key", "-out", "server.crt"]):
        subprocess.run([*make, *more], cwd=folder, check=True, capture_output=True)
    whole = (folder / "server.crt").read_text() + (folder / "server.key").read_text()
    (folder / "server.pem").write_text(whole)


def uv_cache() -> str:
    """This user's."""
    uv = str(Path(sys.executable).with_name("uv"))
    return subprocess.run(
        [uv, "cache", "dir"], capture_output=True, text=True, check=True
    ).stdout.strip()


def fetch_packages() -> Path:
    """A folder with uv's wheel, once per clone; and the nodes' packages into uv's cache."""
    line = pinned((ROOT / "requirements.lock").read_text(), "uv")
    folder = ROOT / ".atoll" / "cache" / f"wheel-{line.split()[0]}"
    with TemporaryDirectory(prefix="atoll-packages-") as scratch:
        if not folder.exists():
            lock, wheels = Path(scratch, "uv.lock"), Path(scratch, "wheels")
            lock.write_text(line)
            how = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
            subprocess.run([PYTHON, "-m", "venv", f"{scratch}/pip"], check=True)
            pip = [f"{scratch}/pip/bin/pip", "download", *how, "--only-binary", ":all:"]
            subprocess.run([*pip, "-r", lock, "-d", wheels], check=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(wheels, folder, dirs_exist_ok=True)
        uv, venv = str(Path(sys.executable).with_name("uv")), f"{scratch}/venv"
        subprocess.run([uv, "venv", "--quiet", "--python", PYTHON, venv], check=True)
        sync = [uv, "pip", "sync", "--require-hashes", "--link-mode", "symlink"]
        sync += ["--python", f"{venv}/bin/python", str(ROOT / "runtime" / "requirements.lock")]
        dry = [*sync, "--offline", "--dry-run"]
        ran = subprocess.run(dry, capture_output=True, text=True, check=False)
        if ran.returncode != 0 or "Would download" in ran.stderr:
            subprocess.run([*sync, "--quiet"], check=True)
    return folder
