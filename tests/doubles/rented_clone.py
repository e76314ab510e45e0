"""A clone of the kit whose stacks stand in the strict double of AWS: real engine, real provider.

The double's provider lies where Pulumi keeps plugins, so that nothing of the clone is changed for
it; AWS's own API answers from the same file.
"""

import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import yaml

from infra.clouds.aws.tags import TAG_RETAIN
from infra.engine import Engine
from tests.doubles.strict_api import served_api
from tests.doubles.strict_cloud import Stored, StrictCloud, write_launchers
from tests.end_to_end.conftest import Clone, Ran, make_clone

EXAMPLES = ("aws-cpu", "aws-small", "aws-multi-node")
ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "AKIAOFTESTSALONE",
    "AWS_SECRET_ACCESS_KEY": "a secret of tests alone",
    "AWS_ALLOW_HTTP": "true",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}

HEAL = """
import sys
from infra.cli.deployer import Deployer
from infra.cli.screen import Screen
Deployer(sys.argv[1], Screen()).up()
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rented:
    """A clone and the cloud that it deploys to."""

    clone: Clone
    cloud: StrictCloud

    def preview(self, stack: str, *words: str) -> Ran:
        """What `up` would do."""
        return self.clone.pulumi("preview", "--stack", stack, *words)

    def up(self, stack: str, *words: str) -> Ran:
        """Deploy."""
        return self.clone.pulumi("up", "--yes", "--skip-preview", "--stack", stack, *words)

    def heal(self, stack: str) -> Ran:
        """The kit's own `up`, up to where it would train."""
        return self.clone.run("python", "-c", HEAL, stack)

    def destroy(self, stack: str) -> Ran:
        """Take it down."""
        return self.clone.pulumi("destroy", "--yes", "--skip-preview", "--stack", stack)

    def api_key(self, stack: str) -> str:
        """The secret that no text may hold."""
        return str(self.clone.outputs(stack)["api_key"])

    def state_text(self) -> str:
        """Everything that Pulumi keeps of all stacks."""
        files = (self.clone.home / "pulumi").rglob("*")
        return "".join(path.read_text(errors="replace") for path in files if path.is_file())

    def change(self, stack: str, **parts: Mapping[str, object]) -> None:
        """Settings of a stack file, beside those that stand in it."""
        path = self.clone.root / "stacks" / f"Pulumi.{stack}.yaml"
        content = yaml.safe_load(path.read_text())
        for name, part in parts.items():
            content["config"][f"atoll:{name}"] |= part
        path.write_text(yaml.safe_dump(content))

    def left(self) -> list[Stored]:
        """What still stands, but for the buckets that the stack keeps on purpose."""
        kept = {r.id for r in self.cloud.resources("aws:s3/bucket:Bucket") if is_kept(r)}
        return [r for r in self.cloud.resources() if str(r.state.get("bucket")) not in kept]


def is_kept(bucket: Stored) -> bool:
    """Whether it says so itself."""
    tags = bucket.state.get("tagsAll")
    return isinstance(tags, dict) and tags.get(TAG_RETAIN) == "true"


@contextmanager
def rented_clone(folder: Path, engine: Engine) -> Iterator[Rented]:
    """In an empty account."""
    clone = make_clone(folder / "atoll", engine)
    cloud = StrictCloud(folder / "cloud.db")
    kept = folder / "pulumi-home" / "plugins" / f"resource-aws-v{version('pulumi_aws')}"
    write_launchers(kept, "aws")
    with served_api(cloud) as url:
        clone.env.update(cloud.env)
        clone.env.update(ACCOUNT)
        clone.env.update(clone.by_hand())
        clone.env.update(
            {
                "AWS_ENDPOINT_URL": url,
                "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
                "NO_PROXY": "127.0.0.1",
            }
        )
        yield Rented(clone=clone, cloud=cloud)


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """A state of cloud and clone to go back to; kept in a folder."""

    rented: Rented
    folder: Path

    def keep(self) -> None:
        """This is it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.rented.clone.home, self.folder / "home")
        _copy(self.rented.cloud.path, self.folder / "cloud.db")

    def restore(self) -> None:
        """Be there again."""
        shutil.rmtree(self.rented.clone.home)
        shutil.copytree(self.folder / "home", self.rented.clone.home)
        _copy(self.folder / "cloud.db", self.rented.cloud.path)


def _copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
