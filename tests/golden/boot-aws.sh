#!/bin/bash
# Atoll makes this machine a node; see its console for each step.
ROLE=training
POOL=training
PLACE='{"region":"eu-central-1","group":"atoll-5e1f0a2b-training","log_group":"/atoll/5e1f0a2b"}'
CONTROL=s3://atoll-5e1f0a2b-control
BUNDLE=s3://atoll-5e1f0a2b-bundle
SHA256=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
TEMPLATE='{"stack":"aws-small","stack_id":"5e1f0a2b","cloud":"aws","pool":"training","bundle_sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","stores":{"bundle":"s3://atoll-5e1f0a2b-bundle","data":"s3://atoll-5e1f0a2b-data","checkpoints":"s3://atoll-5e1f0a2b-checkpoints","models":"s3://atoll-5e1f0a2b-models","control":"s3://atoll-5e1f0a2b-control"},"train":{"model_name":"atoll-code","model":{"vocabulary":2048,"width":192,"layers":4,"heads":6,"kv_heads":6,"hidden":512,"context":512},"data":"python-stdlib","nodes":2,"min_nodes":1,"steps":2000,"global_batch":32,"micro_batch":8,"sequence_tokens":256,"learning_rate":0.002,"warmup_steps":100,"weight_decay":0.1,"clip_norm":1.0,"seed":0,"checkpoint_every_steps":null,"validate_every_steps":100,"join_s":300.0,"pause_s_max":600.0,"unsaved_s_max":600.0,"watchdog_s":10.0,"threads_per_worker":4,"device":"cpu","schedule":null},"serve":null,"gateway":null,"aws":{"region":"eu-central-1","group":"atoll-5e1f0a2b-training","log_group":"/atoll/5e1f0a2b"},"gcp":null,"azure":null}'
INSTALLER='uv==0.13.9 \
    --hash=sha256:5555555555555555555555555555555555555555555555555555555555555555'
UNIT='[Unit]
Description=Atoll node
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0
FailureAction=poweroff

[Service]
User=atoll
Group=atoll
WorkingDirectory=/var/lib/atoll
StateDirectory=atoll
CacheDirectory=atoll
Environment=AWS_REGION=eu-central-1 PYTHONPATH=/opt/atoll/aaaaaaaaaaaa PYTHONUNBUFFERED=1
Environment=PYTHONPYCACHEPREFIX=/var/cache/atoll
ExecStartPre=+-/usr/bin/nvidia-modprobe -c 0 -u
ExecStart=/opt/atoll/venv/bin/python -P -m runtime.node /var/lib/atoll/node.json
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=65
ExecStopPost=-+/bin/sh -c '"'"'test "$$EXIT_STATUS" != 65 || python3 -I /opt/atoll/on_cloud.py "$$(cat /opt/atoll/place)" leave'"'"'
TimeoutStopSec=35
KillMode=mixed
OOMPolicy=continue
LimitNOFILE=65536
LimitMEMLOCK=infinity
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
LockPersonality=yes
RestrictSUIDSGID=yes

[Install]
WantedBy=multi-user.target
'
set -Eeuo pipefail
umask 022
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

readonly BOOT_S=1200 # all steps together
readonly CALL_S=60 # one call to the cloud
readonly END_S=60 # after a fault: each of its status, its group's size, its power
readonly TRIES=5 REFUSED=65 TOLD=143
readonly WORK=/run/atoll-boot OWN=/var/lib/atoll CODE=/opt/atoll/${SHA256:0:12} VENV=/opt/atoll/venv

STEP=begin LINE=0 END=$BOOT_S NODE='' ADDRESS=''

log() { printf 'atoll-boot: %s\n' "$*" >&2; }

step() {
  STEP=$1
  rm -f "$WORK/said"
  log "$STEP, after $SECONDS s"
}

within() { # SECONDS COMMAND...: what it says is shown, and kept for the reason
  local limit=$1 left=$((END - SECONDS)) status=0
  shift
  if ((left < limit)); then limit=$left; fi
  if ((limit <= 0)); then
    echo "no time is left" >"$WORK/said"
    return 124
  fi
  timeout -k 5 "$limit" "$@" >"$WORK/said" 2>&1 || status=$?
  if ((status == 124 || status == 137)); then echo "not done within $limit s" >>"$WORK/said"; fi
  cat "$WORK/said" >&2
  return "$status"
}

again() { # COMMAND...: tried TRIES times, with pauses of 1, 2, 4 and 8 s
  local try status
  for ((try = 1; ; try++)); do
    status=0
    "$@" || status=$?
    if ((status == 0 || status == REFUSED || try == TRIES || SECONDS >= END)); then
      return "$status"
    fi
    sleep $((1 << (try - 1)))
  done
}

cloud() { within "$CALL_S" python3 -I "$WORK/on_cloud.py" "$PLACE" "$@"; }

on_node() { within "$CALL_S" python3 -I "$WORK/on_node.py" "$@"; }

present() { # STATE WHY
  on_node presence "$WORK/template.json" "$NODE" "$ADDRESS" "$$" "$1" "$2" "$WORK/presence" &&
    again cloud put "$WORK/presence" "$CONTROL/nodes/$NODE"
}

finish() { # STATUS: at a fault say why, then stop the bill
  local status=$1 state=failed why
  trap - ERR EXIT
  trap : HUP INT TERM
  set +e
  if ((status == 0)); then return; fi
  if ((status == REFUSED)); then state=refused; fi
  if ((status == TOLD)); then state=stopped; fi
  why=$(tail -c 400 "$WORK/said" 2>/dev/null | tr -s '[:space:]' ' ')
  why="boot: $STEP: line $LINE: status $status: $why"
  log "$state: $why"
  END=$((SECONDS + END_S))
  if [[ -z $NODE ]]; then
    log "presence not written: this node does not know its name"
  elif ! present "$state" "$why"; then
    log "presence not written"
  fi
  # Who is told to end, as by a reclaim, leaves its group as it is.
  if [[ $ROLE == training ]] && ((status != TOLD)); then
    END=$((SECONDS + END_S))
    again cloud leave || log "the size of the group stays"
  fi
  log "power off"
  timeout -k 5 "$END_S" systemctl poweroff || timeout -k 5 "$END_S" shutdown -P now || log "still on"
  exit "$status"
}

trap 'LINE=$LINENO' ERR
trap 'finish $?' EXIT
trap 'exit $TOLD' HUP INT TERM

step "working folder"
install -d -m 700 "$WORK"
printf %s "$TEMPLATE" >"$WORK/template.json"
printf '%s\n' "$INSTALLER" >"$WORK/installer.lock"
cat >"$WORK/on_cloud.py" <<'END_OF_PROGRAM'
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
TRY_S = 10.0
BYTES_MAX = 64 << 20
ALGORITHM = "AWS4-HMAC-SHA256"
WORDS = re.compile(rb"<(?:Code|Message)>([^<]*)<")

def ask(method: str, url: str, headers: dict[str, str], body: bytes = b"") -> bytes:
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
    ttl = {"x-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = ask("PUT", f"{METADATA}api/token", ttl).decode()
    headers = {"x-aws-ec2-metadata-token": token}
    return [ask("GET", f"{METADATA}meta-data/{path}", headers).decode() for path in paths]

def credentials() -> dict[str, str]:
    folder = "iam/security-credentials/"
    (role,) = metadata(folder)
    (keys,) = metadata(folder + role.split()[0])
    found: dict[str, str] = json.loads(keys)
    return found

def signed(
    method: str, url: str, body: bytes, keys: dict[str, str], region: str, moment: str
) -> dict[str, str]:
    parts = urlsplit(url)
    digest = hashlib.sha256(body).hexdigest()
    headers = {
        "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        "host": parts.netloc,
        "x-amz-content-sha256": digest,
        "x-amz-date": moment,
        "x-amz-security-token": keys["Token"],
    }
    lines = [f"{name}:{value}" for name, value in headers.items()]
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
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return ask(method, url, signed(method, url, body, credentials(), region, moment), body)

def main(place: dict[str, str], command: str, *words: str) -> None:
    region = place["region"]
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
        if command == "begin":
            fields["Action"] = "CompleteLifecycleAction"
            fields["AutoScalingGroupName"] = place["group"]
            fields["LifecycleHookName"] = "boot"
            fields["LifecycleActionResult"] = "CONTINUE"
        else:
            fields["Action"] = "TerminateInstanceInAutoScalingGroup"
            fields["ShouldDecrementDesiredCapacity"] = "true"
        call("POST", SERVICE.format("autoscaling", region), region, urlencode(fields).encode())

if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]), *sys.argv[2:])
    except (OSError, HTTPException, ValueError, LookupError) as fault:
        sys.exit(f"{sys.argv[2]}: {type(fault).__name__}: {fault}")
END_OF_PROGRAM
cat >"$WORK/on_node.py" <<'END_OF_PROGRAM'
import hashlib
import io
import json
import sys
import tarfile
import uuid
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NoReturn

EXIT_REFUSED = 65
UNPACKED_BYTES_MAX = 64 << 20
WHY_CHARACTERS_MAX = 600
ROLES = {"train": "training", "serve": "replica", "gateway": "gateway"}

def unpack(bundle: str, sha256: str, into: str) -> None:
    data = Path(bundle).read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        refuse(f"found SHA-256 {found}; allowed only {sha256}")
    left_bytes = UNPACKED_BYTES_MAX
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
            for member in archive:
                left_bytes -= member.size
                path = PurePosixPath(member.name)
                content = archive.extractfile(member) if member.isreg() else None
                if left_bytes < 0:
                    refuse(f"found over {UNPACKED_BYTES_MAX} bytes unpacked")
                if content is None or path.is_absolute() or ".." in path.parts:
                    refuse(f"found {member.name!r}; allowed plain files")
                place = Path(into, path)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content.read())
    except tarfile.TarError as fault:
        refuse(f"can't be unpacked: {fault}")

def refuse(why: str) -> NoReturn:
    print(f"bundle: {why}", file=sys.stderr)
    sys.exit(EXIT_REFUSED)

def describe(template: str, node: str, address: str, file: str) -> None:
    told = json.loads(Path(template).read_bytes())
    Path(file).write_text(json.dumps({**told, "node": node, "address": address}))

def presence(
    template: str, node: str, address: str, pid: str, state: str, why: str, file: str
) -> None:
    told = json.loads(Path(template).read_bytes())
    words = why.encode(errors="surrogateescape").decode(errors="replace")
    said = {
        "node": node,
        "pool": told["pool"],
        "role": next(role for part, role in ROLES.items() if told.get(part)),
        "address": address,
        "boot_id": uuid.uuid4().hex[:16],
        "pid": int(pid),
        "state": state,
        "why": words[:WHY_CHARACTERS_MAX],
    }
    Path(file).write_text(json.dumps(said))

if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {
        "unpack": unpack,
        "describe": describe,
        "presence": presence,
    }
    commands[sys.argv[1]](*sys.argv[2:])
END_OF_PROGRAM

step identity
again cloud identity "$WORK/identity"
{ read -r INSTANCE && read -r ADDRESS; } <"$WORK/identity"
NODE=$POOL-$INSTANCE
log "node $NODE at $ADDRESS"

step presence
present starting ''

step bundle
again cloud get "$BUNDLE/$SHA256" "$WORK/bundle"
on_node unpack "$WORK/bundle" "$SHA256" "$CODE"

step user
id -u atoll >/dev/null 2>&1 ||
  within "$CALL_S" useradd --system --user-group --home-dir "$OWN" --shell /usr/sbin/nologin atoll

step installer
# Ubuntu's cloud images have Python, but neither pip nor what `python3 -m venv` takes it from.
if ! python3 -c 'import ensurepip' 2>/dev/null; then
  again within "$BOOT_S" apt-get -q -o DPkg::Lock::Timeout=120 update
  again within "$BOOT_S" apt-get -q -y -o DPkg::Lock::Timeout=120 \
    install --no-install-recommends python3-venv
fi
within "$BOOT_S" python3 -m venv /opt/atoll/installer
again within "$BOOT_S" /opt/atoll/installer/bin/python -m pip install --quiet --no-input \
  --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
  -r "$WORK/installer.lock"

step packages
within "$BOOT_S" /opt/atoll/installer/bin/uv venv --quiet --clear \
  --python "$(command -v python3)" "$VENV"
again within "$BOOT_S" /opt/atoll/installer/bin/uv pip sync --quiet --no-build \
  --require-hashes --python "$VENV/bin/python" "$CODE/runtime/requirements.lock"

step "node file"
install -d -m 755 -o atoll -g atoll "$OWN"
on_node describe "$WORK/template.json" "$NODE" "$ADDRESS" "$OWN/node.json"

step unit
install -m 644 "$WORK/on_cloud.py" /opt/atoll/on_cloud.py
printf %s "$PLACE" >/opt/atoll/place
printf %s "$UNIT" >/etc/systemd/system/atoll.service
within "$CALL_S" systemctl daemon-reload
within "$CALL_S" systemctl enable --now atoll.service

step started
if [[ $ROLE != training ]]; then
  again cloud begin || log "the group does not know yet"
fi
rm -rf "$WORK"
