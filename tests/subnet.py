"""Addresses that no other test has, even one that runs at the same time, and no stack."""

import random
import socket
import weakref

# Stacks end at 127.253 (infra/plan/names.py).
NUMBERS = range(256)
CLAIM_HOST, CLAIM_PORT = 254, 40_000


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
            else:
                weakref.finalize(self, claim.close)
                return
        raise RuntimeError("all subnets of tests are taken")

    def __str__(self) -> str:
        return self._prefix
