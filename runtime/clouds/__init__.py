"""What a node asks of its cloud: notice, its pool's size, secrets, who it is; one module per cloud.

A pool's size is run-time state: who starts a run makes it grow, nodes make it rest at the end.
No SDKs: a node asks a handful of things, and installs nothing for it.
"""

from runtime.clouds.aws import AwsCloud
from runtime.clouds.azure import AzureCloud
from runtime.clouds.cloud import Cloud, Identity, Notice
from runtime.clouds.gcp import GcpCloud
from runtime.clouds.local import LocalCloud, LocalPool
from runtime.clouds.watch import NoticeWatch
from runtime.errors import Refused
from runtime.node_spec import NodeSpec

__all__ = ["Cloud", "Identity", "LocalPool", "Notice", "NoticeWatch", "cloud_of"]


def cloud_of(spec: NodeSpec) -> Cloud:
    """The cloud that a node is in; raises Refused if its file does not say where in it."""
    if spec.cloud == "local":
        return LocalCloud(spec.stack_id, spec.pool, spec.node)
    if spec.cloud == "aws" and spec.aws is not None:
        return AwsCloud(spec.aws)
    if spec.cloud == "gcp" and spec.gcp is not None:
        return GcpCloud(spec.gcp)
    if spec.cloud == "azure" and spec.azure is not None:
        return AzureCloud(spec.azure)
    raise Refused(f"node file: cloud {spec.cloud}: found no block {spec.cloud}; `up` must write it")
