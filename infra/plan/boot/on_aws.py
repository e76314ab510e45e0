"""What a booting node asks of AWS as its machine's role. Stdlib only: its copy runs on the node.

`on_aws.py PLACE COMMAND ...`, where PLACE is the template's `aws`. Exit 1: worth another try.
Credentials are fetched for each command and kept nowhere. Not covered: China's host names.
"""

import hashlib
import hmac
import json
import re
import sys
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlencode, urlsplit

METADATA = "http://169.254.169.254/latest/"
SERVICE = "https://{}.{}.amazonaws.com/"
TRY_S = 10.0  # of silence; who starts this program limits the whole
BYTES_MAX = 64 << 20
ALGORITHM = "AWS4-HMAC-SHA256"
WORDS = re.compile(rb"<(?:Code|Message)>([^<]*)<")  # the rest of a fault repeats what was signed


def ask(method: str, url: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """The answer's body; raises OSError if it is none, HTTPException if it is no HTTP."""
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    line = kind(parts.netloc, timeout=TRY_S)
    try:
        line.request(method, parts.path, body, headers)
        answer = line.getresponse()
        found = answer.read(BYTES_MAX + 1)
    finally:
        line.close()
    if answer.status >= 300:
        words = b": ".join(WORDS.findall(found)).decode(errors="replace")
        raise OSError(f"{method} {url}: found status {answer.status} {words}")
    if len(found) > BYTES_MAX:
        raise OSError(f"{method} {url}: found more than {BYTES_MAX} bytes")
    return found


def metadata(*paths: str) -> list[str]:
    """Items about this machine, by version 2 alone."""
    ttl = {"x-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = ask("PUT", f"{METADATA}api/token", ttl).decode()
    headers = {"x-aws-ec2-metadata-token": token}
    return [ask("GET", f"{METADATA}meta-data/{path}", headers).decode() for path in paths]


def credentials() -> dict[str, str]:
    """Those of the machine's role."""
    folder = "iam/security-credentials/"
    (role,) = metadata(folder)
    (keys,) = metadata(folder + role.split()[0])
    found: dict[str, str] = json.loads(keys)
    return found


def signed(
    method: str, url: str, body: bytes, keys: dict[str, str], region: str, moment: str
) -> dict[str, str]:
    """Headers by Signature Version 4 as S3 wants it; all are signed, the token too.

    The path stands as it is: buckets and our keys hold nothing that would have to be encoded.
    """
    parts = urlsplit(url)
    digest = hashlib.sha256(body).hexdigest()
    headers = {
        "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        "host": parts.netloc,
        "x-amz-content-sha256": digest,
        "x-amz-date": moment,
        "x-amz-security-token": keys["Token"],
    }
    lines = [f"{name}:{value}" for name, value in headers.items()]  # sorted as written
    request = "\n".join((method, parts.path, "", *lines, "", ";".join(headers), digest))
    scope = f"{moment[:8]}/{region}/{parts.netloc.split('.')[0]}/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{keys['SecretAccessKey']}".encode()
    for part in (*scope.split("/"), f"{ALGORITHM}\n{moment}\n{scope}\n{digest}"):
        key = hmac.digest(key, part.encode(), "sha256")
    headers["authorization"] = (
        f"{ALGORITHM} Credential={keys['AccessKeyId']}/{scope}, "
        f"SignedHeaders={';'.join(headers)}, Signature={key.hex()}"
    )
    return headers


def call(method: str, url: str, region: str, body: bytes = b"") -> bytes:
    """A signed request."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return ask(method, url, signed(method, url, body, credentials(), region, moment), body)


def main(place: dict[str, str], command: str, *words: str) -> None:
    """identity FILE, get URL FILE, put FILE URL, begin, leave; URL is s3://bucket/key."""
    region = place["region"]
    # Bucket in the path, as the runtime's own client has it: one host name for all stores.
    s3 = SERVICE.format("s3", region)
    if command == "identity":
        Path(words[0]).write_text("\n".join(metadata("instance-id", "local-ipv4")) + "\n")
    elif command == "get":
        found = call("GET", s3 + words[0].removeprefix("s3://"), region)
        Path(words[1]).write_bytes(found)
    elif command == "put":
        body = Path(words[0]).read_bytes()
        call("PUT", s3 + words[1].removeprefix("s3://"), region, body)
    else:
        fields = {"Version": "2011-01-01", "InstanceId": metadata("instance-id")[0]}
        if command == "begin":  # its group waits for it before it sends another away
            fields["Action"] = "CompleteLifecycleAction"
            fields["AutoScalingGroupName"] = place["group"]
            fields["LifecycleHookName"] = "boot"
            fields["LifecycleActionResult"] = "CONTINUE"
        else:  # "leave", without a successor, which would fare no better
            fields["Action"] = "TerminateInstanceInAutoScalingGroup"
            fields["ShouldDecrementDesiredCapacity"] = "true"
        call("POST", SERVICE.format("autoscaling", region), region, urlencode(fields).encode())


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]), *sys.argv[2:])
    except (OSError, HTTPException, ValueError, LookupError) as fault:
        sys.exit(f"{sys.argv[2]}: {type(fault).__name__}: {fault}")
