"""Listening sockets of this machine and who holds them, as /proc tells.

Linux only: /proc/net/tcp and tcp6 (proc(5)) list addresses as hexadecimal words in the machine's
own byte order.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_ntop

from infra.clouds.local.processes import pids

LISTEN = "0A"
TABLES = {"/proc/net/tcp": AF_INET, "/proc/net/tcp6": AF_INET6}
WORD_HEX = 8  # digits of a 32-bit word
MAPPED = "::ffff:"  # begins an IPv4 address that an IPv6 socket listens on (RFC 4291, 2.5.5.2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """A TCP port that somebody listens on."""

    address: str
    port: int
    inode: int


def listeners() -> list[Listener]:
    """All listening TCP sockets."""
    found = []
    for table, family in TABLES.items():
        for line in _lines(table):
            fields = line.split()
            if fields[3] != LISTEN:
                continue
            words, port = fields[1].split(":")
            address = inet_ntop(family, _packed(words)).removeprefix(MAPPED)
            found.append(Listener(address=address, port=int(port, 16), inode=int(fields[9])))
    return found


def abstract_sockets(prefix: str) -> list[str]:
    """Names of abstract Unix sockets that begin with `prefix`, without the leading NUL."""
    names = {fields[7] for line in _lines("/proc/net/unix") if len(fields := line.split()) > 7}
    return sorted(name[1:] for name in names if name.startswith(f"@{prefix}"))


def holders(inodes: set[int]) -> dict[int, int]:
    """Socket inode → pid of a process that has it open, of those that may be looked at."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, int] = {}
    for pid in pids():
        for target in _open_files(pid):
            if target in wanted:
                found.setdefault(wanted[target], pid)
    return found


def _lines(table: str) -> list[str]:
    """A table without its head; empty where the kernel has none (no IPv6)."""
    try:
        return Path(table).read_text().splitlines()[1:]
    except FileNotFoundError:
        return []


def _packed(words: str) -> bytes:
    parts = [words[at : at + WORD_HEX] for at in range(0, len(words), WORD_HEX)]
    return b"".join(int(part, 16).to_bytes(4, sys.byteorder) for part in parts)


def _open_files(pid: int) -> Iterator[str]:
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                try:
                    yield os.readlink(entry.path)
                except OSError:
                    continue
    except OSError:  # it has ended, or is another user's
        return
