"""Network namespaces, each with one wire to a common switch; a wire that is cut swallows all.

Nothing is closed and nobody is told, as when a cable is pulled: what a reset can't show. Needs root
and iproute2; raises OSError where there is none.
"""

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

PREFIX = "10.99.0"


class Wires:
    """The namespaces; as text the first three numbers of their addresses."""

    def __init__(self, hosts: int) -> None:
        self._stem = f"atoll-{secrets.token_hex(3)}"
        self._switch = f"{self._stem}-switch"
        self._hosts = [f"{self._stem}-{index}" for index in range(hosts)]
        try:
            self._make()
        except OSError:
            self.close()
            raise

    def __str__(self) -> str:
        return PREFIX

    def within(self, index: int) -> tuple[str, ...]:
        """The words before a command that runs there; it has the address `PREFIX`.(10 + index)."""
        return ("ip", "netns", "exec", self._hosts[index])

    def cut(self, index: int) -> None:
        """Nothing comes through any more."""
        _ip("-n", self._switch, "link", "set", f"wire{index}", "nomaster")

    def mend(self, index: int) -> None:
        """All comes through again, what was sent meanwhile too."""
        _ip("-n", self._switch, "link", "set", f"wire{index}", "master", "bridge")

    def close(self) -> None:
        """With them goes all that is in them but processes."""
        for name in (*self._hosts, self._switch):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def _make(self) -> None:
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge", "up")
        for index, name in enumerate(self._hosts):
            wire, switch = f"wire{index}", ("-n", self._switch)
            _ip("netns", "add", name)
            _ip(*switch, "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip(*switch, "link", "set", wire, "master", "bridge", "up")
            _ip("-n", name, "address", "add", f"{PREFIX}.{10 + index}/24", "dev", "eth0")
            for link in ("eth0", "lo"):
                _ip("-n", name, "link", "set", link, "up")


@contextmanager
def wired(hosts: int) -> Iterator[Wires]:
    """Made and taken down."""
    wires = Wires(hosts)
    try:
        yield wires
    finally:
        wires.close()


def _ip(*words: str) -> None:
    ran = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise OSError(f"ip {' '.join(words)}: {ran.stderr.strip()}")
