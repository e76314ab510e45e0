"""Endpoints that can't be had, or that would be open to the wrong people, are refused."""

from collections.abc import Mapping

import pytest

from infra.plan.fault import Fault
from infra.plan.network import balancer_plan, network_faults
from infra.plan.spec import AccessSpec, CloudName

CLIENTS = ["203.0.113.0/24"]
ARN = "arn:aws:acm:us-east-1:123456789012:certificate/0a1b2c"
VAULT = "https://keys.vault.azure.net/secrets/models"
GCP = "projects/p/locations/global/certificates/models"


def faults(cloud: CloudName, **access: object) -> list[Fault]:
    return [*network_faults(AccessSpec.model_validate(access), cloud)]


@pytest.mark.parametrize(
    ("cloud", "access", "port"),
    [
        (
            "aws",
            {"tls": "managed", "domain": "a.example.org", "allowed_ranges": ["0.0.0.0/0"]},
            443,
        ),
        ("gcp", {"tls": "managed", "domain": "a.example.org", "allowed_ranges": CLIENTS}, 443),
        ("aws", {"tls": "provided", "certificate": ARN, "allowed_ranges": CLIENTS}, 443),
        ("gcp", {"tls": "provided", "certificate": GCP, "allowed_ranges": CLIENTS}, 443),
        ("azure", {"tls": "provided", "certificate": VAULT, "allowed_ranges": CLIENTS}, 443),
        ("aws", {"allowed_ranges": ["10.0.0.0/8", *CLIENTS]}, 80),
        ("local", {"port": 9090}, 9090),
    ],
)
def test_what_can_be_had_is_planned(
    cloud: CloudName, access: Mapping[str, object], port: int
) -> None:
    assert faults(cloud, **access) == []
    assert balancer_plan(AccessSpec.model_validate(access), cloud).port == port


@pytest.mark.parametrize(
    ("cloud", "access", "at", "found"),
    [
        ("local", {"tls": "managed"}, "tls", "rented"),
        ("local", {"allowed_ranges": CLIENTS}, "allowed_ranges", "rented"),
        ("aws", {"allowed_ranges": CLIENTS, "address": "10.0.0.1"}, "address", "its own"),
        ("gcp", {"allowed_ranges": CLIENTS, "port": 9000}, "port", "its own"),
        (
            "aws",
            {"allowed_ranges": CLIENTS, "tls": "managed"},
            "domain",
            "nothing with tls managed",
        ),
        ("aws", {"allowed_ranges": CLIENTS, "tls": "provided"}, "certificate", "nothing"),
        ("aws", {"allowed_ranges": CLIENTS, "domain": "a.example.org"}, "domain", "with tls none"),
        (
            "azure",
            {"allowed_ranges": CLIENTS, "tls": "managed", "domain": "a.example.org"},
            "tls",
            "can't make a certificate",
        ),
        (
            "gcp",
            {"allowed_ranges": CLIENTS, "tls": "managed", "domain": "A_b"},
            "domain",
            "A_b",
        ),
        (
            "gcp",
            {"allowed_ranges": CLIENTS, "tls": "provided", "certificate": ARN},
            "certificate",
            "arn:aws",
        ),
        ("aws", {}, "allowed_ranges", "nobody could connect"),
        ("aws", {"allowed_ranges": ["203.0.113.7/24"]}, "allowed_ranges", "203.0.113.7/24"),
        ("aws", {"allowed_ranges": ["0.0.0.0/0"]}, "allowed_ranges", "without TLS"),
    ],
)
def test_what_can_not_be_had_is_refused(
    cloud: CloudName, access: Mapping[str, object], at: str, found: str
) -> None:
    (fault,) = faults(cloud, **access)

    assert fault.at == f"atoll:access.{at}"
    assert found in fault.found
