"""S3 with roles: SeaweedFS whose own STS gives out the temporary keys that it then checks."""

import base64
import json
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import boto3  # type: ignore[import-untyped]

from tests.doubles.store_servers import (
    ACCESS_KEY,
    SECRET_KEY,
    answers,
    removed_sockets,
    running,
)
from tests.subnet import Subnet

ACCOUNT = "arn:aws:iam::000000000000:role/"


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleStore:
    """A running store, on this host and by a Unix socket."""

    address: str
    socket: str

    def keys(self, role: str) -> tuple[str, str, str]:
        """Temporary ones, with their token."""
        client = boto3.client(
            "sts",
            endpoint_url=self.address,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )
        found = client.assume_role(RoleArn=ACCOUNT + role, RoleSessionName="rehearsal")
        keys = found["Credentials"]
        return keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]


@contextmanager
def role_store(buckets: tuple[str, ...], roles: Mapping[str, object]) -> Iterator[RoleStore]:
    """With these buckets, and a role for each policy document."""
    subnet = Subnet()
    first = 20_000 + 16 * int(str(subnet).rpartition(".")[2])
    host, ports = "127.0.0.1", range(first, first + 16)
    with tempfile.TemporaryDirectory(prefix="atoll-weed-") as folder:
        Path(folder, "s3.json").write_text(json.dumps(_identities()))
        Path(folder, "iam.json").write_text(json.dumps(_roles(roles)))
        socket = f"{folder}/s3.sock"
        command = [
            *(str(Path(sys.executable).with_name("weed")), "server", f"-dir={folder}"),
            *(f"-ip={host}", f"-ip.bind={host}", "-filer", "-s3", f"-s3.config={folder}/s3.json"),
            *(f"-s3.iam.config={folder}/iam.json", f"-s3.localSocket={socket}"),
            *("-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *("-volume.max=60", "-master.volumeSizeLimitMB=64"),
            *(f"-master.port={ports[0]}", f"-master.port.grpc={ports[1]}"),
            *(f"-volume.port={ports[2]}", f"-volume.port.grpc={ports[3]}"),
            *(f"-filer.port={ports[4]}", f"-filer.port.grpc={ports[5]}"),
            *(f"-s3.port={ports[6]}", f"-s3.port.grpc={ports[7]}"),
        ]
        with removed_sockets(ports), running(command, Path(folder), {}) as weed:
            store = RoleStore(address=f"http://{host}:{ports[6]}", socket=socket)
            weed.wait_for(lambda: answers(store.address))
            for bucket in buckets:
                url = f"http://{host}:{ports[4]}/buckets/{bucket}/"
                weed.wait_for(partial(answers, url, "POST", status=201))
            yield store


def _identities() -> dict[str, object]:
    keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    return {"identities": [{"name": "kit", "credentials": [keys], "actions": ["Admin"]}]}


def _roles(roles: Mapping[str, object]) -> dict[str, object]:
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["sts:AssumeRole"]}],
    }
    return {
        "sts": {
            "tokenDuration": "1h",
            "maxSessionLength": "12h",
            "issuer": "seaweedfs-sts",
            "signingKey": base64.b64encode(secrets.token_bytes(32)).decode(),
        },
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "roles": [
            {
                "roleName": name,
                "roleArn": ACCOUNT + name,
                "trustPolicy": trust,
                "attachedPolicies": [name],
            }
            for name in roles
        ],
        "policies": [{"name": name, "document": document} for name, document in roles.items()],
    }
