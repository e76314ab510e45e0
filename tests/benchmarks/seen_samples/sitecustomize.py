"""On the path of an audited node, Python runs this first: a worker notes what it computes."""

import sys

if "runtime.train.worker" in sys.orig_argv:
    from tests.benchmarks.seen_samples.note import note_samples

    note_samples()
