"""What processes of a stack on one machine are told by environment, and how they are marked.

The mark is how a sweep, and the next keeper, find them: it begins the token of each.
"""

from collections.abc import Mapping

from infra.clouds.local.processes import TOKEN

KEEPER = "keeper"  # no node is named so: theirs end in a number

# All that a process of a stack gets from whoever ran `up`; secrets of that shell must not stay.
PASSED_ON = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
)


def mark(stack_id: str, part: str, name: str = "") -> str:
    """How the tokens of a pool's or the balancer's processes begin; of one of them with its name.

    That one is a node, a keeper, or Envoy.
    """
    return f"{stack_id}/{part}/{name}/" if name else f"{stack_id}/{part}/"


def environment(
    passed: Mapping[str, str], *, stack: str, stack_id: str, home: str, token: str
) -> dict[str, str]:
    """Environment of a process of a stack; `passed` is that of the one who starts it."""
    kept = {name: passed[name] for name in PASSED_ON if name in passed}
    return {
        **kept,
        "ATOLL_STACK": stack,
        "ATOLL_STACK_ID": stack_id,
        "ATOLL_HOME": home,
        TOKEN: token,
    }
