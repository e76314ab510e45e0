"""AWS, as one of its machines sees it: metadata version 2, Auto Scaling, Secrets Manager.

Not covered: scheduled maintenance events of on-demand machines (days ahead, told by mail), and the
target state of lifecycle hooks. Endpoints are those of the region; FIPS and VPC ones are not tried.
"""

import base64
import binascii
import logging
import re
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode

from pydantic import AwareDatetime, Field, SecretStr, ValidationError

from runtime.clouds.cloud import REAL, Identity, Notice, Surroundings, notice_until
from runtime.clouds.expiring import Expiring
from runtime.clouds.orders import Answer, Meaning, Order, Understood, carry_out
from runtime.clouds.sigv4 import Credentials, sign
from runtime.clouds.wire import Reply, Request, send
from runtime.errors import Corrupt, Refused, Unavailable
from runtime.limits import METADATA_S
from runtime.node_spec import AwsPlace

METADATA_URL = "http://169.254.169.254"
SESSION_S = 21600  # of a metadata token; the longest that is allowed
JSON = "application/x-amz-json-1.1"
FORM = "application/x-www-form-urlencoded; charset=utf-8"
API_VERSION = "2011-01-01"  # of Auto Scaling
CODE = re.compile(r"<Code>([^<]+)</Code>")
MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
# Common and service errors of the two APIs, from their references (read 2026-11).
AGAIN = {
    *("Throttling", "ThrottlingException", "ThrottledException", "RequestLimitExceeded"),
    *("TooManyRequestsException", "ResourceContention", "ScalingActivityInProgress"),
    *("InternalFailure", "InternalServiceError", "ServiceUnavailable", "RequestTimeout"),
}
STALE = {"ExpiredToken", "ExpiredTokenException"}
MISSING = {"ResourceNotFoundException"}

log = logging.getLogger(__name__)


class _Action(Answer):
    action: str
    time: AwareDatetime


class _Keys(Answer):
    access_key_id: str = Field(alias="AccessKeyId")
    secret_access_key: SecretStr = Field(alias="SecretAccessKey")
    token: SecretStr = Field(alias="Token")
    expiration: AwareDatetime = Field(alias="Expiration")


class _Document(Answer):
    instance: str = Field(alias="instanceId")
    region: str
    zone: str = Field(alias="availabilityZone")


class _Secret(Answer):
    text: SecretStr | None = Field(default=None, alias="SecretString")
    binary: SecretStr | None = Field(default=None, alias="SecretBinary")


class _Fault(Answer):
    kind: str = Field(default="", alias="__type")
    message: str = Field(default="", alias="message")
    spelt: str = Field(default="", alias="Message")  # some of its services write it so


class AwsCloud:
    """Client of the services of one region, and of the machine's own metadata."""

    def __init__(
        self,
        place: AwsPlace,
        *,
        metadata_url: str = METADATA_URL,
        service_url: str | None = None,  # None: the region's own, one per service
        around: Surroundings = REAL,
    ) -> None:
        self._place = place
        self._around = around
        self._metadata_url = metadata_url
        self._service_url = service_url
        self._session = Expiring(self._fetch_session, around.now)
        self._credentials = Expiring(self._fetch_credentials, around.now)
        self._is_advised = False

    def notice(self, wait_s: float = 0.0) -> Notice | None:
        """Of an interruption of a spot machine; that it is advised to leave is no notice."""
        reply = self._metadata("meta-data/spot/instance-action")
        if reply is None:
            self._note_advice()
            return None
        try:
            action = _Action.model_validate_json(reply.body)
        except ValidationError:
            raise Unavailable("metadata: spot/instance-action: found no action, time") from None
        # By the server's clock on both sides, so that this machine's may be wrong by hours.
        left_s = (action.time - (reply.at or self._around.now())).total_seconds()
        return notice_until("reclaim", left_s, self._around.now(), why=f"spot {action.action}")

    def release(self, notice: Notice) -> None:
        """Nothing to tell: a spot machine goes at its time."""

    def set_size(self, size: int) -> None:
        """Set the desired capacity of the Auto Scaling group, now."""
        fields = {
            "Action": "SetDesiredCapacity",
            "Version": API_VERSION,
            "AutoScalingGroupName": self._place.group,
            "DesiredCapacity": str(size),
            "HonorCooldown": "false",
        }
        where = f"Auto Scaling group {self._place.group}"
        self._carry_out(
            f"{where}: size {size}",
            "the size must lie within the group's limits, the group must be in "
            f"{self._place.region}, and the node's role needs autoscaling:SetDesiredCapacity",
            "autoscaling",
            {"content-type": FORM},
            urlencode(fields).encode(),
        )

    def secret(self, reference: str) -> SecretStr:
        """The current value of a secret, by its name or ARN."""
        reply = self._carry_out(
            f"secret {reference}",
            f"it must exist in {self._place.region}, and the node's role needs "
            "secretsmanager:GetSecretValue on it and kms:Decrypt on its key",
            "secretsmanager",
            {"content-type": JSON, "x-amz-target": "secretsmanager.GetSecretValue"},
            _Question(SecretId=reference).model_dump_json().encode(),
        )
        return _secret(reference, reply)

    def identity(self) -> Identity:
        """From the instance identity document."""
        reply = self._metadata("dynamic/instance-identity/document")
        try:
            found = _Document.model_validate_json(reply.body if reply else b"")
        except ValidationError:
            raise Unavailable("metadata: found no instance identity document") from None
        return Identity(instance=found.instance, region=found.region, zone=found.zone)

    def signed(self, service: str, headers: dict[str, str], body: bytes) -> Request:
        """A request to a service as the machine's role; raises Refused or Unavailable."""
        url = self._service_url or f"https://{host(service, self._place.region)}"
        return sign(
            Request(method="POST", url=url + "/", headers=headers, body=body),
            self._credentials.get(),
            region=self._place.region,
            service=service,
            at=self._around.now(),
        )

    def forget_credentials(self) -> None:
        """They were refused as over: the next request gets new ones."""
        self._credentials.forget()

    def _carry_out(
        self, what: str, do: str, service: str, headers: dict[str, str], body: bytes
    ) -> Reply:
        order = Order(
            what=what,
            do=do,
            is_read=service == "secretsmanager",
            request=lambda: self.signed(service, headers, body),
            understand=understand,
            forget_token=self.forget_credentials,
        )
        return carry_out(order, self._around)

    def _note_advice(self) -> None:
        """A rebalance recommendation is advice: the machine may stay for hours; nobody leaves."""
        is_advised = self._metadata("meta-data/events/recommendations/rebalance") is not None
        if is_advised and not self._is_advised:
            log.info("AWS sees a raised risk of an interruption (rebalance recommendation)")
        self._is_advised = is_advised

    def _metadata(self, path: str) -> Reply | None:
        """One item; None if there is no such item now."""
        for is_last in (False, True):
            headers = {"x-aws-ec2-metadata-token": self._session.get().get_secret_value()}
            request = Request(
                method="GET", url=f"{self._metadata_url}/latest/{path}", headers=headers
            )
            reply = send(request, within_s=METADATA_S)
            if reply.is_good:
                return reply
            if reply.status == 404:
                return None
            if reply.status == 401 and not is_last:  # the session is over, or the machine moved
                self._session.forget()
                continue
            raise Unavailable(f"metadata: {path}: found status {reply.status}")
        raise AssertionError("the last try returns or raises")

    def _fetch_session(self) -> tuple[SecretStr, datetime]:
        """Version 2 alone: there is no falling back to requests without a token."""
        asked = self._around.now()
        request = Request(
            method="PUT",
            url=f"{self._metadata_url}/latest/api/token",
            headers={"x-aws-ec2-metadata-token-ttl-seconds": str(SESSION_S)},
        )
        try:
            reply = send(request, within_s=METADATA_S)
        except Unavailable as fault:
            # The token's answer travels one hop by default, so a container never gets it.
            raise Unavailable(f"{fault}; in a container, raise the hop limit to 2") from None
        if not reply.is_good:
            raise Unavailable(f"metadata: token: found status {reply.status}")
        return SecretStr(reply.text()), asked + timedelta(seconds=SESSION_S)

    def _fetch_credentials(self) -> tuple[Credentials, datetime]:
        path = "meta-data/iam/security-credentials/"
        roles = self._metadata(path)
        if roles is None:
            raise Refused("metadata: found no role; give the machine an instance profile")
        reply = self._metadata(path + quote(roles.text().split("\n")[0].strip(), safe=""))
        try:
            keys = _Keys.model_validate_json(reply.body if reply else b"")
        except ValidationError:
            raise Unavailable("metadata: found no credentials of the role") from None
        credentials = Credentials(
            access_key_id=keys.access_key_id,
            secret_access_key=keys.secret_access_key.get_secret_value(),
            token=keys.token.get_secret_value(),
        )
        return credentials, keys.expiration


class _Question(Answer):
    SecretId: str


def host(service: str, region: str) -> str:
    """Where a service of a region listens."""
    return f"{service}.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")


def understand(reply: Reply) -> Understood:
    """What an answer of either API means; one speaks XML, the other JSON."""
    if reply.is_good:
        return Understood(meaning=Meaning.DONE)
    code, words = fault_of(reply)
    words = f"{code or f'status {reply.status}'}: {words}"
    if code in AGAIN or reply.status == 429 or reply.status >= 500:
        return Understood(meaning=Meaning.AGAIN, words=words)
    if code in STALE:
        return Understood(meaning=Meaning.STALE, words=words)
    if code in MISSING:
        return Understood(meaning=Meaning.MISSING, words=words)
    return Understood(meaning=Meaning.REFUSED, words=words)


def fault_of(reply: Reply) -> tuple[str, str]:
    """AWS's code and words in an answer that is no good."""
    text = reply.text()
    code, message = CODE.search(text), MESSAGE.search(text)
    if code:
        return code.group(1), message.group(1) if message else ""
    try:
        fault = _Fault.model_validate_json(reply.body)
    except ValidationError:
        return "", "an answer that is none"
    return fault.kind.rpartition("#")[2], fault.message or fault.spelt


def _secret(reference: str, reply: Reply) -> SecretStr:
    try:
        found = _Secret.model_validate_json(reply.body)
        if found.text is not None:
            return found.text
        if found.binary is not None:
            whole = base64.b64decode(found.binary.get_secret_value(), validate=True)
            return SecretStr(whole.decode())
    except (ValidationError, binascii.Error, UnicodeDecodeError):
        pass  # raised below, so that what was read is not in the exception's context
    raise Corrupt(f"secret {reference}: found no text in the answer; store it as text")
