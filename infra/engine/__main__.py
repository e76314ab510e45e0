"""`python -m infra.engine`: see that there is an engine, and say which.

Makes the folder of the file backend too, so that `pulumi stack init` can be typed next.
"""

import sys

from infra.checkout import home
from infra.engine.backend import make_state_folder
from infra.engine.find import find_engine
from runtime.errors import Refused


def main() -> int:
    """Exit status 1 with the reasons if there is none."""
    try:
        engine = find_engine(lambda line: print(line, flush=True))
        make_state_folder(home())
    except Refused as fault:
        print(fault, file=sys.stderr)
        return 1
    print(f"Pulumi {engine.version} at {engine.pulumi}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
