"""Five buckets: one per right, encrypted, closed to the public, reached by TLS alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import FileAsset, Output, Resource, ResourceOptions

from infra.bundle import Bundle
from infra.checkout import home, replace_file
from infra.clouds.aws.place import Place
from infra.clouds.aws.rights import tls_only_policy
from infra.clouds.aws.tags import TAG_RETAIN
from infra.plan.stores import StorePlan
from runtime.node_spec import STORED_TEXTS

ABORT_DAYS = 1  # what an upload has left that was never finished
NONCURRENT_DAYS = 7  # of what was overwritten or deleted


@dataclass(frozen=True, kw_only=True, slots=True)
class Bucket:
    """A store as other rooms need it."""

    name: Output[str]
    url: Output[str]
    ready: Resource  # the last of its parts: nobody may write before it is closed to others


def make_stores(
    plans: tuple[StorePlan, ...], bundle: Bundle, texts: Bundle | None, place: Place
) -> dict[str, Bucket]:
    """One bucket per right, by role; the runtime lies in its own, and what is trained on too."""
    buckets: dict[str, Bucket] = {plan.role: _bucket(plan, place) for plan in plans}
    _upload("runtime", bundle.sha256, bundle, buckets["bundle"], place)
    if texts is not None:
        _upload("texts", f"{STORED_TEXTS}{texts.sha256}", texts, buckets["data"], place)
    return buckets


def _bucket(plan: StorePlan, place: Place) -> Bucket:
    role = plan.role
    kept = {TAG_RETAIN: "true"} if plan.is_retained else {}
    options = ResourceOptions.merge(
        place.after(), ResourceOptions(retain_on_delete=plan.is_retained)
    )
    bucket = aws.s3.Bucket(
        role,
        bucket=place.name(role),
        force_destroy=not plan.is_retained,
        tags={**place.tags(role), **kept},
        opts=options,
    )
    closed = aws.s3.BucketPublicAccessBlock(
        role,
        bucket=bucket.bucket,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
        opts=options,
    )
    _harden(role, bucket, options)
    _age(role, bucket, options)
    tls_only = aws.s3.BucketPolicy(
        role,
        bucket=bucket.bucket,
        policy=bucket.arn.apply(tls_only_policy),
        opts=ResourceOptions.merge(options, ResourceOptions(depends_on=[closed])),
    )
    return Bucket(name=bucket.bucket, url=Output.concat("s3://", bucket.bucket), ready=tls_only)


def _harden(role: str, bucket: aws.s3.Bucket, options: ResourceOptions) -> None:
    aws.s3.BucketOwnershipControls(
        role,
        bucket=bucket.bucket,
        rule=aws.s3.BucketOwnershipControlsRuleArgs(object_ownership="BucketOwnerEnforced"),
        opts=options,
    )
    aws.s3.BucketServerSideEncryptionConfiguration(
        role,
        bucket=bucket.bucket,
        rules=[
            aws.s3.BucketServerSideEncryptionConfigurationRuleArgs(
                apply_server_side_encryption_by_default=aws.s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
                    sse_algorithm="AES256"
                )
            )
        ],
        opts=options,
    )


def _age(role: str, bucket: aws.s3.Bucket, options: ResourceOptions) -> None:
    """Old versions go after a week. `control` has none: each beat would leave another."""
    versioned: list[Resource] = []
    old: aws.s3.BucketLifecycleConfigurationRuleNoncurrentVersionExpirationArgs | None = None
    if role != "control":
        old = aws.s3.BucketLifecycleConfigurationRuleNoncurrentVersionExpirationArgs(
            noncurrent_days=NONCURRENT_DAYS
        )
        versioned.append(
            aws.s3.BucketVersioning(
                role,
                bucket=bucket.bucket,
                versioning_configuration=aws.s3.BucketVersioningVersioningConfigurationArgs(
                    status="Enabled"
                ),
                opts=options,
            )
        )
    aws.s3.BucketLifecycleConfiguration(
        role,
        bucket=bucket.bucket,
        rules=[
            aws.s3.BucketLifecycleConfigurationRuleArgs(
                id="left-over",
                status="Enabled",
                filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=""),
                abort_incomplete_multipart_upload=aws.s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(
                    days_after_initiation=ABORT_DAYS
                ),
                noncurrent_version_expiration=old,
            )
        ],
        opts=ResourceOptions.merge(options, ResourceOptions(depends_on=versioned)),
    )


def _upload(name: str, key: str, bundle: Bundle, bucket: Bucket, place: Place) -> None:
    """An archive, named by its digest. A node that boots by the old name still finds it.

    From a file: what is uploaded from a program's memory stands in Pulumi's state.
    """
    path = home() / "bundles" / bundle.sha256
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, bundle.data)
    aws.s3.BucketObjectv2(
        name,
        bucket=bucket.name,
        key=key,
        source=FileAsset(str(path)),
        opts=ResourceOptions.merge(
            place.after(bucket.ready), ResourceOptions(retain_on_delete=True)
        ),
    )


def urls(buckets: Mapping[str, Bucket]) -> dict[str, Output[str]]:
    """By role."""
    return {role: bucket.url for role, bucket in buckets.items()}
