"""The boot text: its exact bytes, what fits into it, and the programs that it carries.

After a change that is meant: `python -m tests.infra.plan.test_boot` writes the golden text anew.
"""

import ast
import hashlib
import inspect
import io
import re
import shutil
import subprocess
import sys
import tarfile
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import Credentials  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.engine.set_up import pinned
from infra.plan.boot import (
    BODY,
    CODE_HEX,
    TEXT_BYTES_MAX,
    Boot,
    boot_text,
    on_aws,
    on_node,
    quoted,
    unit_text,
)
from infra.plan.limits import DRAIN_S_MAX, stop_s
from runtime.limits import LEAVE_S
from runtime.node_spec import (
    AwsPlace,
    GatewaySpec,
    ModelSpec,
    NodeSpec,
    NodeTemplate,
    Schedule,
    ServeSpec,
    StoreUrls,
    TrainSpec,
)
from tests.conftest import ROOT
from tests.doubles.aws_cloud import FakeAws

GOLDEN = ROOT / "tests" / "golden" / "boot-aws.sh"
PLACE = AwsPlace(
    region="eu-central-1", group="atoll-5e1f0a2b-training", log_group="/atoll/5e1f0a2b"
)
INSTALLER = "uv==0.13.9 \\\n    --hash=sha256:" + 64 * "5"
# Lone surrogates are no text, and bash holds no NUL.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
NASTY = st.lists(
    st.sampled_from(["'", '"', "\n", "$HOME", "`id`", "\\", "END_OF_PROGRAM", "$(id)", "!", " "])
).map("".join)

TRAINING = TrainSpec(
    model_name="atoll-code",
    model=ModelSpec(),
    data="python-stdlib",
    nodes=2,
    min_nodes=1,
    steps=2000,
    global_batch=32,
    micro_batch=8,
    sequence_tokens=256,
    learning_rate=2e-3,
    warmup_steps=100,
    weight_decay=0.1,
    clip_norm=1.0,
    seed=0,
    checkpoint_every_steps=None,
    validate_every_steps=100,
    join_s=300,
    pause_s_max=600,
    unsaved_s_max=600,
    watchdog_s=10,
    threads_per_worker=4,
)
SERVING = ServeSpec(
    model_name="atoll-code", max_tokens=512, slots=8, queue=32, drain_s=60, threads=4, port=8000
)
GATEWAY = GatewaySpec(replicas=2, api_key_sha256=(64 * "e",), max_tokens=512, drain_s=60, port=8080)


def template(**changes: object) -> NodeTemplate:
    """Of a training pool, unless told otherwise."""
    roles = ("bundle", "data", "checkpoints", "models", "control")
    fields = {
        "stack": "aws-small",
        "stack_id": "5e1f0a2b",
        "cloud": "aws",
        "pool": "training",
        "bundle_sha256": 64 * "a",
        "stores": StoreUrls(**{role: f"s3://atoll-5e1f0a2b-{role}" for role in roles}),
        "train": TRAINING,
        "aws": PLACE,
        **changes,
    }
    return NodeTemplate.model_validate(fields)


def boot(template: NodeTemplate, installer: str = INSTALLER, left_s: float = 35.0) -> Boot:
    """What its nodes are made from."""
    return Boot(template=template, installer=installer, stop_s=left_s)


def value_in_bash(text: str, name: str) -> str:
    """What a variable of the boot text holds once bash has read it."""
    values = text.partition("\nset -Eeuo pipefail\n")[0]
    ran = subprocess.run(
        ["bash", "-euc", f'{values}\nprintf %s "${name}"'], capture_output=True, check=True
    )
    return ran.stdout.decode()


def test_the_text_is_the_golden_one() -> None:
    text = boot_text(boot(template()))

    assert text == GOLDEN.read_text()


def test_the_largest_text_fits_into_user_data() -> None:
    uv = pinned((ROOT / "requirements.lock").read_text(), "uv")
    longest = TRAINING.model_copy(
        update={
            "model_name": 60 * "m",
            "data": 200 * "d",
            "schedule": Schedule(minute=30, hour=22, zone="America/Argentina/ComodRivadavia"),
        }
    )

    text = boot_text(boot(template(train=longest, stack=60 * "s"), installer=uv))

    assert len(text.encode()) < TEXT_BYTES_MAX


def test_a_text_that_would_not_fit_is_refused_with_its_size() -> None:
    longest = TRAINING.model_copy(update={"data": TEXT_BYTES_MAX * "d"})

    with pytest.raises(AssertionError, match=r"a boot text of \d{5} bytes; 16384 fit"):
        boot_text(boot(template(train=longest)))


@pytest.mark.parametrize(
    "part", [{}, {"train": None, "serve": SERVING}, {"train": None, "gateway": GATEWAY}]
)
def test_bash_can_read_it(part: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "boot.sh").write_text(boot_text(boot(template(**part))))

    ran = subprocess.run(
        ["bash", "-n", tmp_path / "boot.sh"], capture_output=True, text=True, check=True
    )

    assert ran.stderr == ""


@settings(max_examples=40)
@given(value=TEXTS | NASTY)
def test_any_value_reaches_the_node_as_it_is(value: str) -> None:
    of_a_pool = template(stack=value, train=TRAINING.model_copy(update={"data": value}))

    text = boot_text(boot(of_a_pool))

    assert value_in_bash(text, "TEMPLATE") == of_a_pool.model_dump_json()
    assert value_in_bash(f"raw={quoted(value)}\nset -Eeuo pipefail\n", "raw") == value


@pytest.mark.parametrize(
    ("commands", "status", "says"),
    [
        ("within 5 echo well", 0, "well"),
        ("within 5 false", 1, ""),
        ("within 1 sleep 60", 124, "not done within 1 s"),
        ("END=0; within 5 echo well", 124, "no time is left"),
        ("END=0; again within 5 echo well", 124, "no time is left"),
        ("sleep() { :; }; TRIES=2; again within 5 ls there-is-none", 2, "No such file"),
        (
            "N=0; refuse() { ((++N == 1)) || exit 3; return 65; }; : >$WORK/said; again refuse",
            65,
            "",
        ),
    ],
)
def test_no_step_outlasts_its_limit_or_the_whole(
    commands: str, status: int, says: str, tmp_path: Path
) -> None:
    functions = boot_text(boot(template())).partition("\ntrap 'LINE")[0]
    functions = functions.replace("set -Eeuo", "set -Euo").replace(
        "readonly TRIES=5", "TRIES=5; readonly"
    )
    functions = functions.replace("/run/atoll-boot", str(tmp_path))

    ran = subprocess.run(
        ["bash", "-c", f"{functions}\n{commands}"], cwd=tmp_path, capture_output=True, text=True
    )

    assert ran.returncode == status
    assert says in (tmp_path / "said").read_text()


def test_the_node_file_is_the_template_with_name_and_address(tmp_path: Path) -> None:
    wanted = template()
    (tmp_path / "template.json").write_text(wanted.model_dump_json())

    on_node.describe(
        str(tmp_path / "template.json"), "training-i-1", "10.0.0.7", str(tmp_path / "node.json")
    )

    found = NodeSpec.model_validate_json((tmp_path / "node.json").read_bytes())
    assert found.model_dump(exclude={"node", "address"}) == wanted.model_dump()
    assert (found.node, found.address) == ("training-i-1", "10.0.0.7")


def test_the_folder_of_the_code_is_the_same_in_text_and_unit() -> None:
    assert f"CODE=/opt/atoll/${{SHA256:0:{CODE_HEX}}}" in BODY.read_text()
    assert f"PYTHONPATH=/opt/atoll/{CODE_HEX * 'a'} " in unit_text(template(), 35.0)


@pytest.mark.parametrize("left_s", [stop_s(0.5), stop_s(DRAIN_S_MAX), LEAVE_S])
def test_systemd_has_nothing_to_say_about_the_unit(left_s: float, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on the path")
    unit = unit_text(template(), left_s)
    path = tmp_path / "atoll.service"
    # The one thing that can't be so here: its program is there.
    path.write_text(unit.replace("/opt/atoll/venv/bin/python", "/usr/bin/env"))

    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=True
    )

    assert ran.stderr == ""  # an unknown setting is told there, with status 0
    assert f"\nTimeoutStopSec={left_s:g}\n" in unit


def without_docstrings(source: str) -> str:
    """What a program does, as a text to compare."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node):
            del node.body[0]
    return ast.dump(tree)


def test_the_programs_lose_only_what_their_readers_need() -> None:
    text = boot_text(boot(template()))
    programs = re.findall(r"<<'END_OF_PROGRAM'\n(.*?)\nEND_OF_PROGRAM\n", text, re.DOTALL)

    for module, kept in zip((on_aws, on_node), programs, strict=True):
        assert ast.dump(ast.parse(kept)) == without_docstrings(inspect.getsource(module))
        assert not re.search(r'"""|^ *#|  # ', kept, re.MULTILINE)


@given(
    body=st.binary(max_size=50),
    key=st.from_regex(r"[A-Za-z0-9._/-]{1,30}", fullmatch=True),
    secret=st.text(min_size=1, max_size=40),
    at=st.datetimes(datetime(2020, 1, 1), datetime(2090, 1, 1)),
)
def test_requests_are_signed_as_botocore_signs_them(
    body: bytes, key: str, secret: str, at: datetime
) -> None:
    keys = {"AccessKeyId": "ASIA1", "SecretAccessKey": secret, "Token": "a/token+=="}
    moment = at.strftime("%Y%m%dT%H%M%SZ")
    url = f"https://s3.eu-central-1.amazonaws.com/a-bucket/{key}"

    headers = on_aws.signed("PUT", url, body, keys, "eu-central-1", moment)

    told = headers.pop("authorization")
    request = AWSRequest("PUT", url, headers, body)
    request.context["timestamp"] = moment
    theirs = SigV4Auth(Credentials("ASIA1", secret, "a/token+=="), "s3", "eu-central-1")
    # S3's paths are encoded once; for ours that is not at all.
    theirs._normalize_url_path = lambda path: path
    canonical = theirs.canonical_request(request)
    signature = theirs.signature(theirs.string_to_sign(request, canonical), request)
    assert told.endswith(f"Signature={signature}")
    assert f"SignedHeaders={';'.join(sorted(headers))}" in told


def test_a_node_leaves_its_group_without_a_successor(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeAws()
    fake.clock.at = datetime.now(UTC)
    monkeypatch.setattr(on_aws, "METADATA", f"{fake.metadata.url}/latest/")
    at = fake.services.url.removeprefix("http://")
    monkeypatch.setattr(
        on_aws, "HTTPSConnection", lambda _, timeout: HTTPConnection(at, timeout=timeout)
    )
    try:
        on_aws.main({"region": "eu-central-1", "group": "atoll-5e1f-training"}, "leave")
        assert fake.members == set()
    finally:
        fake.close()


def packed(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """An archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def linked() -> tarfile.TarInfo:
    """A link to a file of the machine's."""
    member = tarfile.TarInfo("runtime/link")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (packed((tarfile.TarInfo("../outside"), b"")), "found '../outside'; allowed plain files"),
        (packed((tarfile.TarInfo("/etc/motd"), b"")), "found '/etc/motd'; allowed plain files"),
        (packed((linked(), b"")), "found 'runtime/link'; allowed plain files"),
        (packed((tarfile.TarInfo("runtime/a.py"), b"x" * 2048))[:1024], "can't be unpacked"),
        (b"no archive at all", "can't be unpacked"),
    ],
)
def test_a_bundle_that_holds_more_than_plain_files_is_refused(
    data: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bundle").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()

    with pytest.raises(SystemExit) as ended:
        on_node.unpack(str(tmp_path / "bundle"), sha256, str(tmp_path / "code"))

    assert ended.value.code == on_node.EXIT_REFUSED
    assert says in capsys.readouterr().err
    assert not (tmp_path / "outside").exists()


def test_a_bundle_is_not_unpacked_beyond_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(on_node, "UNPACKED_BYTES_MAX", 10)
    data = packed((tarfile.TarInfo("a"), b"123456"), (tarfile.TarInfo("b"), b"123456"))
    (tmp_path / "bundle").write_bytes(data)

    with pytest.raises(SystemExit):
        on_node.unpack(
            str(tmp_path / "bundle"), hashlib.sha256(data).hexdigest(), str(tmp_path / "code")
        )

    assert "found over 10 bytes unpacked" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "code").iterdir()] == ["a"]


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(boot_text(boot(template())))
    sys.stdout.write(f"{GOLDEN.relative_to(ROOT)}\n")
