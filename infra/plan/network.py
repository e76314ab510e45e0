"""Access spec → the balancer's part of the plan, and its faults."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from infra.plan.fault import Fault
from infra.plan.limits import PORTS_USED
from infra.plan.region import misplaced, own_machine_faults
from infra.plan.settings import at
from infra.plan.spec import AccessSpec, CloudName

ANY = "0.0.0.0"  # noqa: S104 compared with, not listened on
EVERYBODY = IPv4Network("0.0.0.0/0")
TLS_PORT, PLAIN_PORT = 443, 80  # of a rented balancer
DOMAIN = re.compile(r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
CERTIFICATES: dict[CloudName, tuple[re.Pattern[str], str]] = {
    "aws": (re.compile(r"arn:aws[a-z-]*:acm:[\w-]+:\d{12}:certificate/[\w-]+"), "an ACM ARN"),
    "gcp": (
        re.compile(r"projects/[\w.:-]+/locations/[\w-]+/certificates/[\w-]+"),
        "projects/…/locations/…/certificates/…",
    ),
    "azure": (
        re.compile(r"https://[\w-]+\.vault\.azure\.net/secrets/[\w-]+(/\w+)?"),
        "https://….vault.azure.net/secrets/…",
    ),
}
RENTED_ONLY = ("tls", "domain", "certificate", "allowed_ranges")


@dataclass(frozen=True, kw_only=True, slots=True)
class BalancerPlan:
    """Where the balancer listens, and to whom."""

    port: int
    address: str | None  # None: an address of the stack's own
    access: AccessSpec


def balancer_plan(spec: AccessSpec, cloud: CloudName) -> BalancerPlan:
    """The one endpoint."""
    rented_port = PLAIN_PORT if spec.tls == "none" else TLS_PORT
    port = spec.port if cloud == "local" else rented_port
    return BalancerPlan(port=port, address=spec.address, access=spec)


def network_faults(spec: AccessSpec, cloud: CloudName) -> Iterator[Fault]:
    """An endpoint that can't be had there, or that would be open to the wrong people."""
    if cloud == "local":
        yield from _own_machine_faults(spec)
    else:
        found = f"{{}} on {cloud}, whose balancer has its own"
        yield from misplaced(spec, "access", ("address", "port"), found, "remove it")
        yield from _tls_faults(spec, cloud)
        yield from _range_faults(spec)


def _own_machine_faults(spec: AccessSpec) -> Iterator[Fault]:
    yield from own_machine_faults(spec, "access", RENTED_ONLY)
    if spec.address is not None and not _is_address(spec.address):
        yield Fault(
            at=at("access.address"),
            found=repr(spec.address),
            allowed="an IPv4 address of this machine, such as 127.0.0.1 or 0.0.0.0",
            do="correct it, or remove it for an address of the stack's own",
        )
    elif spec.address == ANY and spec.port in PORTS_USED:
        taken = ", ".join(map(str, PORTS_USED))
        yield Fault(
            at=at("access.port"),
            beside=(at("access.address"),),
            found=f"{spec.port}, which processes of the stack listen on at such an address",
            allowed=f"1 to 65535 except {taken}",
            do="choose another",
        )


def _tls_faults(spec: AccessSpec, cloud: CloudName) -> Iterator[Fault]:
    needs = {"none": None, "managed": "domain", "provided": "certificate"}[spec.tls]
    for name in ("domain", "certificate"):
        value = getattr(spec, name)
        if (value is not None) != (name == needs):
            yield Fault(
                at=at(f"access.{name}"),
                beside=(at("access.tls"),),
                found=f"{value or 'nothing'} with tls {spec.tls}",
                allowed=f"a {name}" if name == needs else "nothing",
                do="add it" if name == needs else "remove it",
            )
    if spec.tls == "managed" and cloud == "azure":
        yield Fault(
            at=at("access.tls"),
            beside=(at("cluster.cloud"),),
            found="managed on azure, whose balancer can't make a certificate",
            allowed="provided, none",
            do="put a certificate into a Key Vault and name it",
        )
    if spec.domain is not None and not DOMAIN.fullmatch(spec.domain):
        yield Fault(
            at=at("access.domain"),
            found=repr(spec.domain),
            allowed="a name such as models.example.org",
            do="correct it",
        )
    form, example = CERTIFICATES[cloud]
    if spec.certificate is not None and not form.fullmatch(spec.certificate):
        yield Fault(
            at=at("access.certificate"),
            beside=(at("cluster.cloud"),),
            found=repr(spec.certificate),
            allowed=example,
            do="correct it",
        )


def _range_faults(spec: AccessSpec) -> Iterator[Fault]:
    where = at("access.allowed_ranges")
    wrong = [text for text in spec.allowed_ranges if _network(text) is None]
    if wrong or not spec.allowed_ranges:
        yield Fault(
            at=where,
            found=", ".join(wrong) or "none, so that nobody could connect",
            allowed="IPv4 ranges such as 203.0.113.0/24, or 0.0.0.0/0 for everybody",
            do="correct them" if wrong else "add those of your clients",
        )
    elif spec.tls == "none" and any(_network(text) == EVERYBODY for text in spec.allowed_ranges):
        yield Fault(
            at=where,
            beside=(at("access.tls"),),
            found="everybody without TLS, so that keys and texts could be read on the way",
            allowed="everybody with tls managed or provided",
            do="set access.tls, or narrow the ranges",
        )


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True


def _network(text: str) -> IPv4Network | None:
    try:
        return IPv4Network(text)
    except ValueError:
        return None
