"""Addresses that no other test has, even one that runs at the same time, and no stack."""

import random
import socket
import weakref
from pathlib import Path

# Stacks end at 127.253 (infra/plan/names.py).
NUMBERS = range(256)
CLAIM_HOST, CLAIM_PORT = 254, 40_000
TIME_WAIT = "06"  # /proc/net/tcp, proc_net_tcp.rst of the kernel: such a socket stands in no way


class Subnet:
    """`127.254.n`, ours as long as this object lives: a socket on one of its addresses says so."""

    def __init__(self) -> None:
        for number in random.sample(NUMBERS, len(NUMBERS)):
            self._prefix = f"127.254.{number}"
            claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                claim.bind((f"{self}.{CLAIM_HOST}", CLAIM_PORT))
            except OSError:
                claim.close()
                continue
            if _has_sockets(number):  # of a test before, whose last process is just ending
                claim.close()
                continue
            weakref.finalize(self, claim.close)
            return
        raise RuntimeError("all subnets of tests are taken")

    def __str__(self) -> str:
        return self._prefix


def _has_sockets(number: int) -> bool:
    """Whether a TCP socket has one of a subnet's addresses."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = (line.split() for line in lines)
    # An address is written as a number of the machine's byte order: the last part comes first.
    return any(f[1][2:8] == f"{number:02X}FE7F" and f[3] != TIME_WAIT for f in fields)
