"""Each step of a boot text that can fail, failing: the reason is told and the machine goes off."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256

import pytest

from infra.plan.names import Role
from tests.doubles.rehearsal import AUTHORITIES, Machine, Region
from tests.doubles.rehearsal_stack import (
    BUNDLE,
    INSTALLER,
    machines,
    opened,
    packed,
    presence,
    stocked,
    tells_no_secret,
    template,
    text_of,
)
from tests.doubles.rehearsal_store import RoleStore

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store() -> Iterator[RoleStore]:
    """S3 with the five buckets and the bundle."""
    with stocked() as store:
        yield store


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Circumstances under which a boot text must fail, and how."""

    step: str
    says: str
    state: str = "failed"
    pool: Role = "gateway"
    may: str = "gateway"
    bundle: bytes | None = None  # None: the good one
    sha256: str | None = None  # None: of the bundle
    installer: str = INSTALLER
    files: Mapping[str, str] = field(default_factory=dict)
    has_metadata: bool = True
    has_group: bool = True
    edit: tuple[str, str] = ("", "")  # of the text: a limit that nobody waits for
    is_heard: bool = True  # it can say so in the store


SHEBANG = "#!/bin/bash\n"
HANDS_ON = 'exec /usr/bin/python3 "$@"\n'
# An image without what `python3 -m venv` needs, as Ubuntu's are.
BARE_PYTHON = f'{SHEBANG}[[ "$*" != "-c import ensurepip" ]] || exit 1\n{HANDS_ON}'
PYTHON3, APT_GET = "usr/local/bin/python3", "usr/local/sbin/apt-get"
USERADD, SYSTEMCTL = "usr/local/sbin/useradd", "usr/local/sbin/systemctl"
SHUTDOWN = "usr/local/sbin/shutdown"
ABSENT = 64 * "0"

FAULTS: Mapping[str, Fault] = {
    "metadata is away": Fault(
        step="identity", says="Connection refused", has_metadata=False, is_heard=False
    ),
    "no right to say anything": Fault(
        step="presence", says="status 403", may="silent", is_heard=False
    ),
    "another S3": Fault(
        step="presence",
        says="CERTIFICATE_VERIFY_FAILED",
        files={str(AUTHORITIES.relative_to("/")): ""},
        is_heard=False,
    ),
    "no bundle": Fault(step="bundle", says="status 404 NoSuchKey", sha256=ABSENT),
    "no right to the bundle": Fault(step="bundle", says="status 403", may="blind"),
    "another bundle": Fault(
        step="bundle",
        says=f"found SHA-256 {BUNDLE.sha256}; allowed only 1111",
        state="refused",
        bundle=BUNDLE.data,
        sha256=64 * "1",
    ),
    "a bundle that reaches out": Fault(
        step="bundle",
        says="found '../motd'; allowed plain files",
        state="refused",
        bundle=packed(**{"..__motd": b""}),
    ),
    "no user": Fault(
        step="user",
        says="status 9: useradd: cannot open /etc/passwd",
        files={USERADD: f"{SHEBANG}echo useradd: cannot open /etc/passwd >&2; exit 9"},
    ),
    "a program that hangs": Fault(
        step="user",
        says="status 124: not done within 20 s",
        files={USERADD: f"{SHEBANG}sleep 600"},
        edit=("CALL_S=60", "CALL_S=20"),
    ),
    "told to end": Fault(
        step="user",
        says="status 143",
        state="stopped",
        pool="training",
        may="training",
        files={USERADD: f'{SHEBANG}kill -TERM "$(ps -o ppid= -p $PPID)"; sleep 1'},
    ),
    "no packages of the system's": Fault(
        step="installer",
        says="status 100: E: Could not get lock",
        files={PYTHON3: BARE_PYTHON, APT_GET: f"{SHEBANG}echo E: Could not get lock; exit 100"},
    ),
    "another installer": Fault(
        step="installer",
        says="Got ",
        installer=INSTALLER.splitlines()[0] + f"\n    --hash=sha256:{64 * '2'}",
    ),
    "another package": Fault(
        step="packages",
        says="annotated-doc",
        bundle=packed(
            **{"runtime__requirements.lock": b"annotated-doc==0.0.7 --hash=sha256:" + 64 * b"3"}
        ),
    ),
    "a system that does not start units, nor goes off": Fault(
        step="unit",
        says="status 1: Failed to connect to bus",
        files={
            SYSTEMCTL: f"{SHEBANG}echo Failed to connect to bus; exit 1",
            SHUTDOWN: f"{SHEBANG}touch /mnt/shared/off",
        },
    ),
    "of a training node": Fault(
        step="bundle", says="status 404", sha256=ABSENT, pool="training", may="training"
    ),
    "of a training node without its group": Fault(
        step="bundle",
        says="status 404",
        sha256=ABSENT,
        pool="training",
        may="training",
        has_group=False,
    ),
}


@pytest.fixture(scope="module")
def failed(store: RoleStore) -> Iterator[Mapping[str, Machine]]:
    """A machine for each fault, all switched on at once."""
    with ExitStack() as stack:
        there = machines(stack, store, len(FAULTS))
        yield {name: boot_with(there, fault) for name, fault in FAULTS.items()}


def boot_with(there: Region, fault: Fault) -> Machine:
    """Under the circumstances of a fault."""
    data = BUNDLE.data if fault.bundle is None else fault.bundle
    name = fault.sha256 or sha256(data).hexdigest()
    if fault.bundle is not None:
        opened(there.store, "bundle").put(name, data)
    text = text_of(template(fault.pool, name), fault.installer)
    return there.boot(
        text.replace(*fault.edit) if fault.edit[0] else text,
        may=fault.may,
        has_metadata=fault.has_metadata,
        has_group=fault.has_group,
        files=fault.files,
    )


@pytest.mark.parametrize("name", FAULTS)
def test_a_node_that_cannot_boot_says_why_and_goes_off(
    failed: Mapping[str, Machine], store: RoleStore, name: str
) -> None:
    machine, fault = failed[name], FAULTS[name]

    status = machine.booted()

    assert status != 0
    assert machine.is_off, machine.console
    assert f"{fault.state}: boot: {fault.step}: line " in machine.console
    assert fault.says in machine.console
    assert tells_no_secret(machine)
    told = presence(store, machine, fault.pool)
    if not fault.is_heard:
        assert told is None
        assert "presence not written" in machine.console
        return
    assert told is not None, machine.console
    assert told.state == fault.state
    assert told.why.startswith(f"boot: {fault.step}: line ")
    assert fault.says in told.why
    assert told.role == fault.pool
    assert told.address == machine.address


def test_a_training_node_that_cannot_boot_leaves_its_group(
    failed: Mapping[str, Machine],
) -> None:
    machine, other = failed["of a training node"], failed["of a training node without its group"]
    innocent = (failed["told to end"], failed["no bundle"])  # a reclaim, and no training node
    for each in (machine, other, *innocent):
        each.booted()

    assert [status for status, _ in machine.orders] == [200]
    assert "ShouldDecrementDesiredCapacity=true" in machine.orders[0][1]
    assert {status for status, _ in other.orders} == {400}
    assert "the size of the group stays" in other.console
    assert other.is_off
    assert [each.orders for each in innocent] == [[], []]


def test_an_image_without_ensurepip_gets_it_from_the_systems_packages(store: RoleStore) -> None:
    installs = 'echo "$*" >>/mnt/shared/apt; if [[ $* == *install* ]]; then cp /mnt/python3 '
    files = {
        PYTHON3: BARE_PYTHON,
        "mnt/python3": SHEBANG + HANDS_ON,
        APT_GET: f"{SHEBANG}{installs}/{PYTHON3}; fi\n",
    }
    with ExitStack() as stack:
        there = machines(stack, store, 1)

        machine = there.boot(text_of(template("gateway")), may="gateway", files=files)

        assert machine.booted() == 0, machine.console
        apt = (machine.shared / "apt").read_text()
        assert "update" in apt
        assert "install --no-install-recommends python3-venv" in apt
