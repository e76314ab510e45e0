"""What a rented machine runs when it first starts: its template and two programs → one bash text.

Pure. The text makes the machine a node: it says in the node's presence that it starts, fetches the
bundle and checks its digest, installs the packages of the bundle's lock by their hashes, and starts
one systemd unit. At a fault it says why, and stops its own bill. A cloud differs from another in
what its machine asks it: `on_aws.py`, a program with four commands.

Not covered: China's regions of AWS.
"""

import inspect
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from infra.plan.boot import on_aws, on_node
from runtime.node_spec import NodeTemplate

TEXT_BYTES_MAX = 16 << 10  # of user data, before it is encoded: EC2 User Guide, 2026-11
BODY = Path(__file__).with_name("node.sh")
CODE_HEX = 12  # of the bundle's digest, in the name of its folder: see node.sh
END_OF_PROGRAM = "END_OF_PROGRAM"
FOR_READERS = re.compile(r'^ *(?:""".*?"""|#.*?)\n|  # .*?$', re.MULTILINE | re.DOTALL)
HEAD = ("#!/bin/bash", "# Atoll makes this machine a node; see its console for each step.")
BLANK = re.compile(r"\n{3,}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Boot:
    """What the nodes of one pool are made from. Holds no secret."""

    template: NodeTemplate
    installer: str  # lines of a lock with hashes: uv, which installs the rest
    stop_s: float  # from SIGTERM to SIGKILL


def boot_text(boot: Boot) -> str:
    """The user data, the same bytes for the same boot."""
    template = boot.template
    assert template.aws is not None, "the other clouds follow"
    values = {
        "ROLE": template.role,
        "POOL": template.pool,
        "PLACE": template.aws.model_dump_json(),
        "CONTROL": template.stores.control.rstrip("/"),
        "BUNDLE": template.stores.bundle.rstrip("/"),
        "SHA256": template.bundle_sha256,
        "TEMPLATE": template.model_dump_json(),
        "INSTALLER": boot.installer.strip(),
        "UNIT": unit_text(template, boot.stop_s),
    }
    lines = [f"{name}={quoted(value)}" for name, value in values.items()]
    body = BODY.read_text()
    for mark, module in (("@on_cloud.py@\n", on_aws), ("@on_node.py@\n", on_node)):
        body = body.replace(mark, program(inspect.getsource(module)))
    text = "\n".join((*HEAD, *lines, body))
    size_bytes = len(text.encode())
    assert size_bytes < TEXT_BYTES_MAX, f"a boot text of {size_bytes} bytes; {TEXT_BYTES_MAX} fit"
    return text


def unit_text(template: NodeTemplate, stop_s: float) -> str:
    """The one systemd unit of a node, which it also starts by after a reboot.

    `ProtectSystem=strict` leaves it its own two folders and /tmp to write in. No PrivateDevices and
    no MemoryDenyWriteExecute: they take GPUs and compiled kernels away. A GPU's devices may be made
    by a helper that is setuid, which NoNewPrivileges stops: so that runs before, as root.
    A node that is refused would be refused again: it goes off the bill, and of a training pool
    nobody follows it.
    """
    assert template.aws is not None
    code = f"/opt/atoll/{template.bundle_sha256[:CODE_HEX]}"
    return f"""\
[Unit]
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
Environment=AWS_REGION={template.aws.region} PYTHONPATH={code} PYTHONUNBUFFERED=1
Environment=PYTHONPYCACHEPREFIX=/var/cache/atoll
ExecStartPre=+-/usr/bin/nvidia-modprobe -c 0 -u
ExecStart=/opt/atoll/venv/bin/python -P -m runtime.node /var/lib/atoll/node.json
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=65
ExecStopPost={_leave(template)}
TimeoutStopSec={stop_s:g}
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
"""


def _leave(template: NodeTemplate) -> str:
    """An empty command is none."""
    if template.role != "training":
        return ""
    ask = 'python3 -I /opt/atoll/on_cloud.py "$$(cat /opt/atoll/place)" leave'
    return f"""-+/bin/sh -c 'test "$$EXIT_STATUS" != 65 || {ask}'"""


def program(source: str) -> str:
    """A module without what only its readers need: each byte of a boot text counts."""
    assert END_OF_PROGRAM not in source
    return BLANK.sub("\n\n", FOR_READERS.sub("", source)).lstrip("\n")


def quoted(value: str) -> str:
    """One word of bash that stands for exactly this text."""
    assert "\0" not in value, "bash holds no NUL"
    return shlex.quote(value)
