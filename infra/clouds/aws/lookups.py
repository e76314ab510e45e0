"""What is looked up by name instead of made: the image of a pool, the zone of a domain. Pure."""

from infra.plan.machines import machine_table
from infra.plan.spec import PoolSpec


def image_name(rented: PoolSpec) -> str:
    """Public parameter that names the newest image: with a driver where there may be a GPU.

    Source: AWS Systems Manager, "Ubuntu AMIs by parameter"; Deep Learning AMI release notes
    (read 2026-11).
    """
    machines = machine_table("aws").machines
    if any(machines[name].devices for name in rented.machines):
        return (
            "/aws/service/deeplearning/ami/x86_64/"
            "base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
        )
    return "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"


def zone_name(domain: str) -> str:
    """Route 53 zone that must hold the records of a domain."""
    return domain.partition(".")[2]
