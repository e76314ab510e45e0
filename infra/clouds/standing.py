"""A stack that stands, from the operator's machine: its view, its control store, what is left.

By cloud, and by the marker that a stack leaves on the machine: none of it needs Pulumi's state.
"""

from pathlib import Path

from infra.checkout import StackMarker, stack_folder
from infra.clouds.leftovers import SweepReport
from infra.clouds.local import sweep as local
from infra.clouds.local.view import open_view as open_local_view
from infra.clouds.view import StackView
from infra.engine.broken_off import BrokenOff
from runtime.objects import Store, file_url, open_store


def open_view(marker: StackMarker) -> StackView | None:
    """The stack as the commands see it; None if it has no control store. Raises AtollError."""
    if marker.cloud == "aws":
        from infra.clouds.aws.view import open_view as open_aws_view

        return open_aws_view(marker)
    return open_local_view(marker)


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


def clear(marker: StackMarker, report: SweepReport) -> None:
    """End and remove exactly what a sweep of this stack found left. Raises AtollError."""
    if marker.cloud == "aws":
        from infra.clouds.aws.session import open_session
        from infra.clouds.aws.sweep import clear as clear_aws

        region = region_of(marker)
        clear_aws(open_session(region), region, report)
    else:
        local.clear(report)


def clear_orphans(marker: StackMarker, found: BrokenOff) -> tuple[str, ...]:
    """Remove what a killed `up` made and told nobody; in words. Raises AtollError."""
    if marker.cloud != "aws":
        return ()
    from infra.clouds.aws.orphans import clear_orphans as clear_aws
    from infra.clouds.aws.session import open_session

    region = region_of(marker)
    return clear_aws(open_session(region), region, marker.stack_id, found)


def region_of(marker: StackMarker) -> str:
    """Where a rented stack is."""
    assert marker.region is not None, "a rented cloud's stack is made with it"
    return marker.region
