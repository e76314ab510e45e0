"""A memory cgroup with a small limit: what does not fit is killed by the kernel. Needs root."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOTS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))  # version 1, version 2


@contextmanager
def little_memory(limit_bytes: int) -> Iterator[tuple[str, ...]]:
    """The words before a command that runs in it; raises OSError where there can be none."""
    root = next(root for root in ROOTS if root.exists())
    group = root / f"atoll-{secrets.token_hex(3)}"
    group.mkdir()
    try:
        is_first = (group / "memory.limit_in_bytes").exists()
        limit = group / ("memory.limit_in_bytes" if is_first else "memory.max")
        if not limit.exists():
            raise OSError(f"{group}: no memory controller")
        limit.write_text(str(limit_bytes))
        join = f'echo $$ > {group}/cgroup.procs && exec "$@"'
        yield ("sh", "-c", join, "sh")
    finally:
        os.rmdir(group)
