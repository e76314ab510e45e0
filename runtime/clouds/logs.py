"""A node's log lines in its cloud, where the node file says so: the same that it writes locally.

AWS only so far. Not covered: what a machine says before its node starts, and what is written as a
process dies at once, as by kill -9.
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.clouds.aws import AwsCloud
from runtime.clouds.aws_logs import AwsLogs
from runtime.clouds.overheard import Overheard
from runtime.clouds.shipping import Shipper, Sink
from runtime.limits import LOG_FLUSH_S
from runtime.node_spec import NodeSpec

CHILDREN_S = LOG_FLUSH_S / 4  # of it for what children have said last

log = logging.getLogger(__name__)


@contextmanager
def shipped(spec: NodeSpec, boot_id: str, form: str) -> Iterator[int | None]:
    """Ship within this context, in the form of local lines.

    Gives what children are to have as standard error; None: the same as this process.
    """
    sink = _sink(spec, boot_id)
    if sink is None:
        yield None
    else:
        with shipped_to(sink, form) as stderr:
            yield stderr


@contextmanager
def shipped_to(sink: Sink, form: str) -> Iterator[int]:
    """The same, to a sink."""
    root, shipper = logging.getLogger(), Shipper(sink)
    shipper.setFormatter(logging.Formatter(form))
    shipper.start()
    overheard = Overheard(shipper.hear)
    root.addHandler(shipper)
    try:
        yield overheard.stderr
    except Exception:
        # Python itself writes it to standard error alone.
        words, why = "the node ends by a fault", sys.exc_info()
        shipper.handle(log.makeRecord(log.name, logging.CRITICAL, __file__, 0, words, (), why))
        raise
    finally:
        root.removeHandler(shipper)
        until = time.monotonic() + LOG_FLUSH_S
        overheard.close(CHILDREN_S)
        shipper.end(until - time.monotonic())


def _sink(spec: NodeSpec, boot_id: str) -> Sink | None:
    if spec.aws is None or spec.aws.log_group is None:
        return None
    return AwsLogs(AwsCloud(spec.aws), spec.aws.log_group, f"{spec.node}/{boot_id}")
