"""AWS for one node: instance metadata version 2, and three services that check every signature.

Shapes: EC2 User Guide "Use the Instance Metadata Service" and "Spot Instance interruption notices",
Auto Scaling API Reference "SetDesiredCapacity" and
"TerminateInstanceInAutoScalingGroup", Secrets Manager API Reference "GetSecretValue", all
read 2026-11. Signatures are computed by botocore from the secret that metadata gave out.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import Credentials  # type: ignore[import-untyped]

from runtime.clouds.aws import AwsCloud
from runtime.node_spec import AwsPlace
from tests.doubles.aws_logs import TARGET, FakeLogs
from tests.doubles.cloud_server import Answered, Asked, FakeServices

PLACE = AwsPlace(region="eu-central-1", group="atoll-5e1f-training")
ROLE = "atoll-training"
INSTANCE = "i-0123456789abcdef0"
HOUR = timedelta(hours=1)
SKEW_MAX = timedelta(minutes=5)


class FakeAws(FakeServices):
    """Holds one group of 0 to 4 machines, secrets, and a log group."""

    name = "aws"
    forbidden_says = "autoscaling:SetDesiredCapacity"
    notice_s_max = 120.0

    def __init__(self) -> None:
        super().__init__()
        self.action: dict[str, str] | None = None
        self.is_rebalance_advised = False
        self.members = {INSTANCE}  # of the group
        self.logs = FakeLogs()
        self._sessions: set[str] = set()
        self.cloud = AwsCloud(
            PLACE,
            metadata_url=self.metadata.url,
            service_url=self.services.url,
            around=self.clock.around,
        )

    def reclaim(self, left_s: float) -> None:
        """Give notice."""
        at = self.clock.at + timedelta(seconds=left_s)
        self.action = {"action": "terminate", "time": at.strftime("%Y-%m-%dT%H:%M:%SZ")}

    def put_secret(self, value: str) -> str:
        """Keep a secret; its reference."""
        self.secrets["atoll/api-key"] = {"SecretString": value}
        return "atoll/api-key"

    def garble_secret(self, value: str) -> str:
        """Keep one whose answer is damaged; its reference."""
        self.secrets["atoll/broken"] = {"SecretString": {"text": value}}
        return "atoll/broken"

    missing_secret = "atoll/nothing"

    def expire_tokens(self) -> None:
        """What was given out so far is refused from now on."""
        self._number += 1
        self._sessions.clear()

    def _keys(self, behind: int = 0) -> Credentials:
        number = self._number - behind
        return Credentials(f"ASIA{number:016}", f"key/{number}+abc", f"token/{number}==")

    def _metadata(self, asked: Asked) -> Answered:
        if "x-forwarded-for" in asked.headers:
            return Answered(status=403)
        if asked.method == "PUT" and asked.path == "/latest/api/token":
            told = asked.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
            if not told.isdigit() or not 1 <= int(told) <= 21600:
                return Answered(status=400)
            token = f"session-{len(self._sessions)}-{self._number}"
            self._sessions.add(token)
            return Answered(body=token)
        if asked.headers.get("x-aws-ec2-metadata-token") not in self._sessions:
            return Answered(status=401)
        item = self._items().get(asked.path.removeprefix("/latest/"))
        return (
            Answered(status=404, body="<html>404</html>") if item is None else Answered(body=item)
        )

    def _items(self) -> dict[str, object]:
        keys = self._keys(self.behind)
        roles = "meta-data/iam/security-credentials/"
        items: dict[str, object] = {
            "meta-data/instance-id": INSTANCE,
            roles: ROLE,
            roles + ROLE: {
                "Code": "Success",
                "Type": "AWS-HMAC",
                "LastUpdated": "2026-11-25T11:30:00Z",
                "AccessKeyId": keys.access_key,
                "SecretAccessKey": keys.secret_key,
                "Token": keys.token,
                "Expiration": (self.clock.at + HOUR).strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
            "dynamic/instance-identity/document": {
                "instanceId": INSTANCE,
                "region": PLACE.region,
                "availabilityZone": "eu-central-1a",
                "accountId": "000000000000",
            },
        }
        if self.action is not None:
            items["meta-data/spot/instance-action"] = self.action
        if self.is_rebalance_advised:
            items["meta-data/events/recommendations/rebalance"] = {
                "noticeTime": "2026-11-25T12:00:00Z"
            }
        return items

    def _service(self, asked: Asked) -> Answered:
        target = asked.headers.get("x-amz-target")
        is_log = (target or "").startswith(TARGET)
        service = "logs" if is_log else "secretsmanager" if target else "autoscaling"
        fault = self._unsigned(asked, service)
        if fault is None and self.throttled:
            self.throttled -= 1
            fault = ("ThrottlingException" if target else "Throttling", "Rate exceeded")
        if fault is None and self.is_forbidden:
            fault = ("AccessDeniedException" if target else "AccessDenied", "not authorized")
        if is_log and fault is None:
            code, said = self.logs.answer(asked, self.clock.at)
            return _json_fault(code, str(said)) if code else Answered(body=said)
        if target:
            return _json_fault(*fault) if fault else self._secret(asked, target)
        return _xml_fault(*fault) if fault else self._resize(asked)

    def _unsigned(self, asked: Asked, service: str) -> tuple[str, str] | None:
        """What is wrong with a signature, as AWS says it."""
        keys = self._keys()
        headers = dict(asked.headers)
        told = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\S+), SignedHeaders=(\S+), Signature=(\w+)",
            headers.pop("authorization", ""),
        )
        if told is None:
            return "MissingAuthenticationToken", "Missing Authentication Token"
        key_id, scope, names, signature = told.groups()
        moment = headers["x-amz-date"]
        if key_id != keys.access_key or headers.get("x-amz-security-token") != keys.token:
            return "ExpiredToken", "The security token included in the request is expired"
        at = datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(at - self.clock.at) > SKEW_MAX:
            return "RequestExpired", "Request has expired"
        signed = set(names.split(";"))
        if not {h for h in headers if h.startswith("x-amz-")} | {"host"} <= signed:
            return "SignatureDoesNotMatch", "a header is not signed"
        url = f"http://{headers['host']}{asked.path}"
        request = AWSRequest(asked.method, url, {n: headers[n] for n in signed}, asked.body)
        request.context["timestamp"] = moment
        oracle = SigV4Auth(keys, service, PLACE.region)
        expected = oracle.signature(
            oracle.string_to_sign(request, oracle.canonical_request(request)), request
        )
        if (scope, signature) != (oracle.credential_scope(request), expected):
            return "SignatureDoesNotMatch", "The request signature we calculated does not match"
        return None

    def _resize(self, asked: Asked) -> Answered:
        form = self._form(asked)
        if form["Action"] == "TerminateInstanceInAutoScalingGroup":
            return self._end(form)
        if form["Action"] == "CompleteLifecycleAction":
            return self._begin(form)
        size = int(form.pop("DesiredCapacity"))
        assert form.pop("HonorCooldown") == "false"
        assert form.pop("Action") == "SetDesiredCapacity"
        if form != {"AutoScalingGroupName": PLACE.group}:
            return _xml_fault("ValidationError", "AutoScalingGroup name not found")
        if not 0 <= size <= 4:
            return _xml_fault("ValidationError", f"New SetDesiredCapacity value {size} is above 4")
        self.size = size
        return Answered(body="<SetDesiredCapacityResponse/>")

    def _form(self, asked: Asked) -> dict[str, str]:
        assert asked.method == "POST"
        assert asked.path == "/"
        assert asked.headers["content-type"].startswith("application/x-www-form-urlencoded")
        form = dict(parse_qsl(asked.body.decode(), strict_parsing=True))
        assert form.pop("Version") == "2011-01-01"
        return form

    def _end(self, form: Mapping[str, str]) -> Answered:
        """Of one machine, with the size that it was one of."""
        assert form["ShouldDecrementDesiredCapacity"] == "true"
        instance = form["InstanceId"]
        if instance not in self.members:
            return _xml_fault("ValidationError", f"Instance Id not found - {instance}")
        self.members.remove(instance)
        return Answered(body="<TerminateInstanceInAutoScalingGroupResponse/>")

    def _begin(self, form: Mapping[str, str]) -> Answered:
        """One that was waited for."""
        assert form["LifecycleHookName"] == "boot"
        assert form["LifecycleActionResult"] == "CONTINUE"
        if form["InstanceId"] not in self.members:
            return _xml_fault("ValidationError", "No active Lifecycle Action found")
        return Answered(body="<CompleteLifecycleActionResponse/>")

    def _secret(self, asked: Asked, target: str) -> Answered:
        assert target == "secretsmanager.GetSecretValue"
        assert asked.headers["content-type"] == "application/x-amz-json-1.1"
        found = re.fullmatch(r'\{"SecretId":"([^"]+)"\}', asked.body.decode())
        assert found is not None
        if found.group(1) not in self.secrets:
            return _json_fault(
                "ResourceNotFoundException", "Secrets Manager can't find the specified secret."
            )
        return Answered(body=self.secrets[found.group(1)])


def _status(code: str) -> int:
    return 403 if code in ("AccessDenied", "SignatureDoesNotMatch", "ExpiredToken") else 400


def _xml_fault(code: str, message: str) -> Answered:
    body = (
        '<ErrorResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><Error>'
        f"<Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        "<RequestId>3c</RequestId></ErrorResponse>"
    )
    return Answered(status=_status(code), body=body)


def _json_fault(code: str, message: str) -> Answered:
    code = "ExpiredTokenException" if code == "ExpiredToken" else code
    return Answered(status=400, body={"__type": code, "Message": message})
