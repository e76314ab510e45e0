"""`python -m infra.engine`: see that there is an engine, and say which."""

import sys

from infra.engine.find import find_engine
from runtime.errors import Refused


def main() -> int:
    """Exit status 1 with the reasons if there is none."""
    try:
        engine = find_engine(lambda line: print(line, flush=True))
    except Refused as fault:
        print(fault, file=sys.stderr)
        return 1
    print(f"Pulumi {engine.version} at {engine.pulumi}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
