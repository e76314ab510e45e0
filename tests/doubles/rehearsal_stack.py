"""A stack to rehearse: templates of its pools, its stores, and what its nodes may do in them.

The rights are those that the kit gives to nodes on AWS, checked by a store that knows signatures,
session tokens and policies.
"""

import json
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import pytest

from infra.bundle import build_bundle, build_texts
from infra.clouds.aws.rights import node_policy
from infra.engine.set_up import pinned
from infra.plan.boot import Boot, boot_text
from infra.plan.names import Role
from infra.plan.stores import ROLES
from runtime.coordination.log import Presence
from runtime.errors import Missing
from runtime.node_spec import (
    STORED_TEXTS,
    GatewaySpec,
    NodeTemplate,
    ServeSpec,
    StoreUrls,
)
from runtime.objects import Store, open_store
from tests.conftest import ROOT
from tests.doubles.aws_cloud import PLACE
from tests.doubles.rehearsal import Machine, Region, region
from tests.doubles.rehearsal_store import RoleStore, role_store
from tests.doubles.store_servers import options
from tests.tiny import MODEL, tiny_spec, write_texts

KEY = "a key for tests"
BUCKETS: Mapping[str, str] = {role: f"atoll-5e1f0a2b-{role}" for role in ROLES}
INSTALLER = pinned((ROOT / "requirements.lock").read_text(), "uv")
BUNDLE = build_bundle(ROOT)
with TemporaryDirectory() as _folder:
    TEXTS = build_texts(write_texts(Path(_folder)))
TRAINING = tiny_spec(Path(STORED_TEXTS, TEXTS.sha256), steps=40, join_s=120, watchdog_s=10)
SERVING = ServeSpec(
    model_name=MODEL, max_tokens=32, slots=2, queue=8, drain_s=5, threads=1, port=8000
)
GATEWAY = GatewaySpec(
    replicas=1,
    api_key_sha256=(sha256(KEY.encode()).hexdigest(),),
    max_tokens=32,
    drain_s=5,
    port=8080,
)
PARTS: Mapping[Role, Mapping[str, object]] = {
    "training": {"train": TRAINING},
    "replica": {"serve": SERVING},
    "gateway": {"gateway": GATEWAY},
}


def template(role: Role, bundle_sha256: str = BUNDLE.sha256, **changes: object) -> NodeTemplate:
    """Of one role's pool."""
    fields = {
        "stack": "aws-small",
        "stack_id": "5e1f0a2b",
        "cloud": "aws",
        "pool": role,
        "bundle_sha256": bundle_sha256,
        "stores": StoreUrls(**{role: f"s3://{name}" for role, name in BUCKETS.items()}),
        "aws": PLACE,
        **PARTS[role],
        **changes,
    }
    return NodeTemplate.model_validate(fields)


def text_of(template: NodeTemplate, installer: str = INSTALLER) -> str:
    """The boot text."""
    return boot_text(Boot(template=template, installer=installer, stop_s=13.0))


def packed(**members: bytes) -> bytes:
    """An archive of plain files; `__` in a name stands for a slash."""
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    return out.getvalue()


def policies() -> dict[str, str]:
    """What each role of node may do, and two that may less."""
    may = {role: _of_stores(node_policy(role, BUCKETS, "*", "*")) for role in get_args(Role)}
    silent = json.loads(may["gateway"])
    silent["Statement"] = [s for s in silent["Statement"] if s["Sid"] != "ControlWrite"]
    blind = json.loads(may["gateway"])
    blind["Statement"] = [s for s in blind["Statement"] if not s["Sid"].startswith("Bundle")]
    return {**may, "silent": json.dumps(silent), "blind": json.dumps(blind)}


def _of_stores(policy: str) -> str:
    """Without what a store does not know of."""
    document = json.loads(policy)
    document["Statement"] = [s for s in document["Statement"] if s["Sid"] not in ("Group", "Logs")]
    return json.dumps(document)


@contextmanager
def stocked() -> Iterator[RoleStore]:
    """S3 with the five buckets and the bundle."""
    documents = {name: json.loads(text) for name, text in policies().items()}
    with role_store(tuple(BUCKETS.values()), documents) as store:
        opened(store, "bundle").put(BUNDLE.sha256, BUNDLE.data)
        opened(store, "data").put(TRAINING.data, TEXTS.data)
        yield store


def opened(store: RoleStore, role: str) -> Store:
    """One of the five stores, as its owner."""
    return open_store(f"s3://{BUCKETS[role]}", options=options("s3", store.address))


def machines(stack: ExitStack, store: RoleStore, how_many: int) -> Region:
    """Room for so many, or a skip."""
    try:
        return stack.enter_context(region(how_many, store))
    except (OSError, subprocess.CalledProcessError) as fault:
        pytest.skip(f"this machine allows no such namespaces: {fault}")


def presence(store: RoleStore, machine: Machine, pool: Role) -> Presence | None:
    """What a machine's node has said of itself."""
    try:
        found = opened(store, "control").get(f"nodes/{pool}-{machine.instance}")
    except Missing:
        return None
    return Presence.model_validate_json(found)


def tells_no_secret(machine: Machine) -> bool:
    """Nothing of the keys stands in what it has said."""
    _, secret, token = json.loads((machine.shared / "sky.json").read_text())["keys"]
    said = machine.console + machine.unit
    return secret not in said and token not in said and token[-20:] not in said
