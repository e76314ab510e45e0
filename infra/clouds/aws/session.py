"""The operator's own way into AWS: credentials as AWS's tools keep them, profiles and SSO included.

Nodes have ways of their own (`runtime.clouds.aws`, `runtime.objects`).
"""

import boto3  # type: ignore[import-untyped]
from obstore.auth.boto3 import Boto3CredentialProvider

from infra.clouds.aws.sweeping.api import Api
from infra.clouds.aws.sweeping.faults import told
from infra.plan.names import rented_name
from runtime.errors import Missing, Refused
from runtime.objects import Store, open_store


def open_session(region: str) -> boto3.Session:
    """In a region; raises Refused where there are no credentials."""
    with told("sts", region):
        session = boto3.Session(region_name=region)
        found = session.get_credentials()
    if found is None:
        raise Refused(
            "AWS credentials: found none; allowed what AWS's own tools read: AWS_PROFILE, "
            "AWS_ACCESS_KEY_ID, ~/.aws; run: aws configure"
        )
    return session


def control_url(stack_id: str) -> str:
    """Where the control store of a stack is."""
    return f"s3://{rented_name(stack_id, 'control')}"


def open_bucket(url: str, region: str) -> Store:
    """A bucket with the operator's credentials. Raises AtollError."""
    return open_bucket_in(open_session(region), url, region)


def open_bucket_in(session: boto3.Session, url: str, region: str) -> Store:
    """The same, of a session that is there."""
    return open_store(
        url, options={"aws_region": region}, credentials=Boto3CredentialProvider(session)
    )


def has_bucket(url: str, region: str) -> bool:
    """Whether a bucket is there and ours. Raises AtollError where that can't be known."""
    return has_bucket_in(Api(open_session(region), region), url)


def has_bucket_in(api: Api, url: str) -> bool:
    """The same, of a session that is there."""
    try:
        api.do("s3", "head_bucket", Bucket=url.removeprefix("s3://"))
    except Missing:
        return False
    except Refused:
        api.account()  # the answer to a HEAD has no words: this one's has, if it is who asks
        raise
    return True
