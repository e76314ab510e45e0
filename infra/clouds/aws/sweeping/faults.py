"""What went wrong at AWS, as an error of our tree: its class says who acts.

A thing that is not there is Missing and one that another still holds is Conflict: both are answers
that a sweep goes on with. Whoever asks must change something first after Refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions as boto  # type: ignore[import-untyped]
from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]

from runtime.errors import AtollError, Conflict, Missing, Refused, Unavailable

# Services that policies name otherwise than boto3, and actions that are not called as the API.
PREFIXES = {
    "elbv2": "elasticloadbalancing",
    "resourcegroupstaggingapi": "tag",
    "service-quotas": "servicequotas",
}
ACTIONS = {
    "s3:ListBuckets": "s3:ListAllMyBuckets",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:DeleteObjects": "s3:DeleteObjectVersion",
    "budgets:DescribeBudgets": "budgets:ViewBudget",
    "budgets:DeleteBudget": "budgets:ModifyBudget",
}
GONE = {"404", "InvalidPlacementGroup.Unknown", "Gateway.NotAttached"}  # 404: a HEAD has no words
HELD = {
    "BucketNotEmpty",
    "ConflictException",
    "DeleteConflict",
    "DependencyViolation",
    "IncorrectInstanceState",
    "IncorrectState",
    "KMSInvalidStateException",
    "OperationAborted",
    "OperationAbortedException",
    "ScalingActivityInProgress",
    "ScalingActivityInProgressFault",
}
DENIED = {"AuthorizationError", "Forbidden", "NotAuthorized", "UnauthorizedOperation", "403"}
BAD_CREDENTIALS = {
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "InvalidToken",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "OptInRequired",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
}
BUSY = {"PriorRequestNotComplete", "RequestLimitExceeded", "SlowDown", "TooManyRequestsException"}
NO_CREDENTIALS = (
    boto.ConfigNotFound,
    boto.ConfigParseError,
    boto.CredentialRetrievalError,
    boto.InvalidConfigError,
    boto.LoginError,
    boto.NoAuthTokenError,
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.ProfileNotFound,
    boto.RefreshWithMFAUnsupportedError,
    boto.SSOError,
    boto.TokenRetrievalError,
    boto.UnknownCredentialError,
)
NO_ANSWER = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.MetadataRetrievalError,
    ResponseParserError,
)


@contextmanager
def told(service: str, region: str) -> Iterator[None]:
    """Turn what botocore raises into our own."""
    try:
        yield
    except boto.ClientError as error:
        raise _of_answer(error, service, region) from error
    except NO_CREDENTIALS as error:
        raise Refused(
            f"AWS credentials: {error}; log in, or set AWS_PROFILE or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, then repeat"
        ) from error
    except boto.InvalidRegionError as error:
        raise Refused(f"region: {error}; name one of AWS's") from error
    except NO_ANSWER as error:
        words = f"{service} in {region}: {error}; repeat when it can be reached"
        raise Unavailable(words) from error


def code_of(error: AtollError) -> str:
    """AWS's own word for what `told` has turned; empty where AWS said nothing."""
    answer = error.__cause__
    if not isinstance(answer, boto.ClientError):
        return ""
    code: str = answer.response["Error"]["Code"]
    return code


def is_denied(error: AtollError) -> bool:
    """Whether who asks lacks a right."""
    return _is_denied(code_of(error))


def _of_answer(error: boto.ClientError, service: str, region: str) -> AtollError:
    code: str = error.response["Error"]["Code"]
    words = error.response["Error"].get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    action = f"{PREFIXES.get(service, service)}:{error.operation_name}"
    found = f"{action} in {region}: {code}: {words}"
    if _is_gone(code, words):
        return Missing(found)
    if code in HELD or "InUse" in code:
        return Conflict(found)
    if code in BAD_CREDENTIALS:
        return Refused(
            f"{found}; AWS does not take these credentials here: log in again or set other ones, "
            f"see that {region} is enabled for the account, then repeat"
        )
    if _is_denied(code):
        needed = ACTIONS.get(action, action)
        return Refused(f"{found}; allow {needed} to who you are logged in as, then repeat")
    if code in BUSY or "Throttl" in code or status >= 500:
        return Unavailable(f"{found}; repeat later")
    return Refused(found)


def _is_denied(code: str) -> bool:
    return code in DENIED or "AccessDenied" in code


def _is_gone(code: str, words: str) -> bool:
    # Auto Scaling has no code of its own for a group that is not there.
    is_unknown_group = code == "ValidationError" and "not found" in words
    return code in GONE or "NotFound" in code or code.startswith("NoSuch") or is_unknown_group
