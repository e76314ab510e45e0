#!/usr/bin/python3 -P
"""`systemctl` of a rehearsed machine: starts what a unit says, as the unit says; and the power.

Kept of a unit: its user, environment, folders, command and rules of starting again. Not kept: what
hardens it. `systemd-analyze verify` looks at the rest.
"""

import os
import pwd
import shlex
import subprocess
import sys
import time
from pathlib import Path

UNITS = Path("/etc/systemd/system")
SHARED = Path("/mnt/shared")  # with the test


def main(words: list[str]) -> int:
    """The three commands that a boot text gives."""
    if words == ["daemon-reload"]:
        return 0
    if words == ["poweroff"]:
        (SHARED / "off").touch()
        return 0
    if words[:2] == ["enable", "--now"] and len(words) == 3:
        unit = read_unit(UNITS / words[2])
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                supervise(unit)
            os._exit(0)
        return 0
    print(f"systemctl: found {words}", file=sys.stderr)
    return 64


def read_unit(path: Path) -> dict[str, list[str]]:
    """Every setting of a unit, with all its values."""
    unit: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        name, is_setting, value = line.partition("=")
        if is_setting:
            unit.setdefault(name, []).append(value)
    return unit


def supervise(unit: dict[str, list[str]]) -> None:
    """Run it, and again as `Restart=on-failure` wants; never returns."""
    (user,) = unit["User"]
    for folder, name in (("/var/lib", "StateDirectory"), ("/var/cache", "CacheDirectory")):
        for value in unit.get(name, ()):
            Path(folder, value).mkdir(parents=True, exist_ok=True)
            subprocess.run(["chown", f"{user}:", f"{folder}/{value}"], check=True)
    environment = dict(
        word.partition("=")[::2] for line in unit["Environment"] for word in shlex.split(line)
    )
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    out = os.open(SHARED / "unit", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open("/dev/null", os.O_RDWR)
    for number, to in enumerate((nothing, out, out)):
        os.dup2(to, number)
    while True:
        ran = subprocess.run(
            shlex.split(unit["ExecStart"][0]),
            user=user,
            group=unit["Group"][0],
            extra_groups=[],
            cwd=unit["WorkingDirectory"][0],
            env={"PATH": path, "HOME": pwd.getpwnam(user).pw_dir, **environment},
            check=False,
        )
        (SHARED / "exits").open("a").write(f"{ran.returncode}\n")
        post = shlex.split(unit["ExecStopPost"][0].lstrip("-+").replace("$$", "$"))
        if post:
            status = {"PATH": path, "EXIT_STATUS": str(ran.returncode)}
            subprocess.run(post, env=status, check=False)
        if ran.returncode == 0:
            os._exit(0)
        if str(ran.returncode) in unit["RestartPreventExitStatus"]:
            if unit["FailureAction"] == ["poweroff"]:
                (SHARED / "off").touch()
            os._exit(0)
        time.sleep(float(unit["RestartSec"][0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
