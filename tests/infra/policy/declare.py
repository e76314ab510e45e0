"""What the kit declares for a stack file, without an engine: `python -m tests.infra.policy.declare
FILE` prints type and inputs of each resource as JSON.

A program of its own: Pulumi's mocks stay in the process that has set them.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pulumi
import yaml

ACCOUNT, STACK_ID = "123456789012", "5e1f0a2b"
# Whatever somebody reads of a resource that is made.
OUTPUTS = {
    "allocationId": "eipalloc-1",
    "dnsName": "atoll.elb.amazonaws.com",
    "domainValidationOptions": [
        {"resourceRecordName": "_a.x", "resourceRecordType": "CNAME", "resourceRecordValue": "b"}
    ],
    "fqdn": "_a.x",
    "key": "secret",
    "latestVersion": 1,
    "sha256": 64 * "e",
    "stack_id": STACK_ID,
    "zoneId": "Z1",
}
ANSWERS = {"accountId": ACCOUNT, "insecureValue": "ami-1", "zoneId": "Z1", "id": "x"}


class Recorder(pulumi.runtime.Mocks):
    """Makes everything at once."""

    def __init__(self) -> None:
        self.declared: list[tuple[str, str, dict[str, Any]]] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        """Its id, and what it was asked to be with all else that may be read."""
        self.declared.append((args.typ, args.name, dict(args.inputs)))
        name = args.inputs.get("bucket") or args.inputs.get("name") or args.name
        arn = f"arn:aws:s3:::{name}" if args.typ.endswith(":Bucket") else f"arn:aws:x:::{name}"
        return f"{args.name}-id", {**OUTPUTS, "arn": arn, **args.inputs}

    def call(
        self, args: pulumi.runtime.MockCallArgs
    ) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """Of any look-up."""
        return ANSWERS, []


def main(path: Path) -> None:
    """Plan, declare, print."""
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, project="atoll", stack="aws")

    from infra.clouds.aws.deploy import deploy
    from infra.config import read_spec
    from infra.plan.facts import UNSEEN
    from infra.plan.plan import plan

    spec, faults = read_spec(yaml.safe_load(path.read_text())["config"])

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def declare() -> pulumi.Output[str]:
        return deploy(plan(spec, UNSEEN, faults), "atoll", "aws").endpoint_url

    declare()
    print(json.dumps(recorder.declared, default=str))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
