"""Who is given credentials asks no metadata address for more; nor do the tests of this suite.

Runs in a network namespace of its own, where that address is a listener of ours.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.doubles.store_servers import NO_METADATA, SERVERS

ADDRESS = "169.254.169.254"
KNOCK = """
import json, socket, subprocess, sys, threading
from runtime.errors import AtollError
from runtime.objects import open_store
from tests.doubles.clock import patience
from tests.doubles.store_servers import BUCKET, options

address, has_credentials = sys.argv[1], sys.argv[2] == "with"
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=True)
listener = socket.create_server((address, 80))
asked = 0

def listen():
    global asked
    while True:
        listener.accept()[0].close()
        asked += 1

threading.Thread(target=listen, daemon=True).start()
told = {}
for scheme in ("s3", "gs", "az"):
    given = options(scheme, "http://127.0.0.1:1")
    if not has_credentials:
        for name in ("access_key_id", "secret_access_key", "bearer_token", "account_key"):
            given.pop(name, None)
    store = open_store(f"{scheme}://{BUCKET}", options=given, patience=patience(total_s=3.0))
    asked = 0
    for call in (lambda: store.get("a"), lambda: store.put("a", b"x"), lambda: [*store.list()]):
        try:
            call()
        except AtollError:
            pass
    told[scheme] = asked
print(json.dumps(told))
"""


def knocks(folder: Path, has_credentials: bool, variables: dict[str, str]) -> dict[str, int]:
    """How often each scheme's client asked the metadata address for something."""
    how = "with" if has_credentials else "without"
    ran = subprocess.run(
        ["unshare", "--net", "--map-root-user", sys.executable, "-c", KNOCK, ADDRESS, how],
        cwd=ROOT,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in ran.stderr and ran.returncode != 0:
        pytest.skip(f"this machine allows no network namespace: {ran.stderr.strip()}")
    assert ran.returncode == 0, ran.stderr
    return {scheme: int(count) for scheme, count in json.loads(ran.stdout).items()}


def test_a_client_that_has_credentials_asks_nobody_for_more(tmp_path: Path) -> None:
    assert knocks(tmp_path, True, {}) == dict.fromkeys(SERVERS, 0)


def test_a_client_without_credentials_would_be_seen_to_ask(tmp_path: Path) -> None:
    assert all(knocks(tmp_path, False, {}).values())


def test_the_variables_that_tests_set_keep_any_client_from_asking(tmp_path: Path) -> None:
    assert knocks(tmp_path, False, NO_METADATA) == dict.fromkeys(SERVERS, 0)
