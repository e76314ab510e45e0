"""A stack that stands, from the operator's machine: its control store, and what is left of it.

By cloud, and by the marker that a stack leaves on the machine: none of it needs Pulumi's state.
"""

from pathlib import Path

from infra.checkout import StackMarker, stack_folder
from infra.clouds.leftovers import SweepReport
from infra.clouds.local import sweep as local
from runtime.objects import Store, file_url, open_store


def open_control(marker: StackMarker) -> Store | None:
    """Its control store; None if there is none yet, or no more. Raises AtollError."""
    if marker.cloud == "aws":
        from infra.clouds.aws.session import control_url, has_bucket, open_bucket

        url, region = control_url(marker.stack_id), region_of(marker)
        return open_bucket(url, region) if has_bucket(url, region) else None
    folder = stack_folder(Path(marker.home), marker.stack_id) / "stores" / "control"
    return open_store(file_url(folder)) if folder.is_dir() else None


def open_named(url: str, region: str | None) -> Store:
    """A store by its address, with the operator's rights. Raises AtollError."""
    if url.startswith("s3://"):
        from infra.clouds.aws.session import open_bucket

        assert region is not None, "whoever names a bucket names its region"
        return open_bucket(url, region)
    return open_store(url)


def sweep(marker: StackMarker) -> SweepReport:
    """Everything that is there of it. Raises AtollError where nobody can be asked."""
    if marker.cloud == "aws":
        from infra.clouds.aws.session import open_session
        from infra.clouds.aws.sweep import sweep as sweep_aws

        region = region_of(marker)
        return sweep_aws(open_session(region), region, marker.stack_id)
    return local.sweep(Path(marker.home), marker.stack, marker.stack_id)


def region_of(marker: StackMarker) -> str:
    """Where a rented stack is."""
    assert marker.region is not None, "a rented cloud's stack is made with it"
    return marker.region
