"""What can stand in a stack's way in an account, found before anything is made.

Who asks, the region, machines in its zones, quotas, images, reservations, certificate, DNS zone.
Does not guess what can't be seen: whether who asks may make it all, and whether AWS has capacity.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial

import boto3  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict

from infra.clouds.aws.lookups import image_name, zone_name
from infra.clouds.aws.quotas import (
    ADDRESSES,
    NETWORKS,
    TRANSLATIONS,
    Quota,
    nodes_most,
    translations_wanted,
    vcpus_wanted,
)
from infra.clouds.aws.sweeping.api import Api
from infra.clouds.aws.sweeping.faults import BAD_CREDENTIALS, code_of, is_denied
from infra.clouds.aws.used import Reservation, Used
from infra.clouds.checks import Check
from infra.plan.plan import Plan, PoolPlan
from infra.plan.settings import at
from infra.plan.spec import StackSpec
from runtime.errors import AtollError, Missing, Unavailable

HOME = "us-east-1"  # enabled for every account


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found."""

    is_ok: bool
    found: str
    do: str = ""


OpenSession = Callable[[str], boto3.Session]
Look = tuple[str, Callable[[], Finding]]  # raises AtollError where AWS does not tell


class QuotaValue(BaseModel):
    """A quota as Service Quotas tells it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Ahead:
    """A stack that is not there yet, and where it shall stand."""

    api: Api
    spec: StackSpec
    plan: Plan
    used: Used


def preflight(
    open_session: OpenSession, spec: StackSpec, plan: Plan, own: Collection[str]
) -> list[Check]:
    """All checks in order; those of identity and region alone where nobody may ask more.

    `own`: ids of the stack, if it stands. What these hold need not be had once more.
    """
    assert plan.region is not None, "refused before"
    api, checks = _enter(open_session, plan.region)
    if api is None:
        return checks
    ahead = Ahead(api=api, spec=spec, plan=plan, used=Used(api, own))
    return [*checks, *(_check(name, look) for name, look in _looks(ahead))]


def _enter(open_session: OpenSession, region: str) -> tuple[Api | None, list[Check]]:
    """Who asks; None if AWS lets nobody ask there."""
    try:
        api = Api(open_session(region), region)
        who = _who(api)
    except AtollError as fault:
        return None, _not_taken(open_session, region, fault)
    return api, [
        Check(name="identity", is_ok=True, found=who),
        Check(name="region", is_ok=True, found=f"{region} answers this account"),
    ]


def _who(api: Api) -> str:
    [row] = api.rows("sts", "get_caller_identity", "[{id: Account, arn: Arn}]")
    return f"account {row.id}, {row.arn}"


def _not_taken(open_session: OpenSession, region: str, fault: AtollError) -> list[Check]:
    """Whether it is the credentials, or the region that does not know them."""
    refused = _of_fault("identity", fault, is_ok=False)
    if code_of(fault) not in BAD_CREDENTIALS or region == HOME:
        return [refused]
    try:
        who = _who(Api(open_session(HOME), HOME))
    except AtollError:
        return [refused]
    return [
        Check(name="identity", is_ok=True, found=who),
        Check(
            name="region",
            is_ok=False,
            found=f"{region} does not take these credentials ({code_of(fault)}), but {HOME} does: "
            f"{region} is not enabled for the account",
            do=f"aws account enable-region --region-name {region}, and wait until it is; where it "
            "is already, log in anew with a session that all regions take",
        ),
    ]


def _check(name: str, look: Callable[[], Finding]) -> Check:
    """What one may not see, or nobody answers, is not known; it need not be wrong."""
    try:
        finding = look()
    except AtollError as fault:
        is_unknown = is_denied(fault) or isinstance(fault, Unavailable | Missing)
        return _of_fault(name, fault, is_ok=None if is_unknown else False)
    return Check(name=name, is_ok=finding.is_ok, found=finding.found, do=finding.do)


def _of_fault(name: str, fault: AtollError, *, is_ok: bool | None) -> Check:
    """Most of our errors end with what to do."""
    found, _, do = str(fault).rpartition("; ")
    if not found:
        found, do = do, "see for yourself in the console of AWS"
    return Check(name=name, is_ok=is_ok, found=found, do=do)


def _looks(ahead: Ahead) -> Iterator[Look]:
    """All that is looked at once it is known who asks."""
    plan = ahead.plan
    for pool in plan.pools:
        yield f"machines of {pool.name}", partial(_offers, ahead, pool)
    yield from _quotas(ahead)
    for parameter in dict.fromkeys(image_name(pool.rented) for pool in plan.pools):
        names = [pool.name for pool in plan.pools if image_name(pool.rented) == parameter]
        yield f"image of {', '.join(names)}", partial(_image, ahead, parameter)
    for reservation in dict.fromkeys(pool.rented.reservation for pool in plan.pools):
        if reservation is not None:
            yield f"reservation {reservation}", partial(_reservation, ahead, reservation)
    access = plan.balancer.access
    if access.certificate is not None:
        yield "certificate", partial(_certificate, ahead, access.certificate)
    if access.domain is not None:
        yield f"zone of {access.domain}", partial(_zone, ahead, zone_name(access.domain))


def _offers(ahead: Ahead, pool: PoolPlan) -> Finding:
    """Each of its machines in each zone where it may stand."""
    machines, zones = pool.rented.machines, _zones(ahead.plan, pool)
    rows = ahead.api.rows(
        "ec2",
        "describe_instance_type_offerings",
        "InstanceTypeOfferings[].{id: InstanceType, holder: Location}",
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": list(machines)}],
    )
    offered = {(row.id, row.holder or "") for row in rows}
    lacking = [f"{m} in {zone}" for m in machines for zone in zones if (m, zone) not in offered]
    if not lacking:
        return Finding(True, f"{', '.join(machines)} in {', '.join(zones)}")
    having = {zone for _, zone in offered}
    having = {zone for zone in having if all((machine, zone) in offered for machine in machines)}
    return Finding(
        False,
        f"AWS offers no {', no '.join(lacking)}",
        f"choose other machines in {at(f'pools.{pool.name}.machines')}, or zones in "
        f"{at('cluster.zones')} that have all of these: {', '.join(sorted(having)) or 'none has'}",
    )


def _zones(plan: Plan, pool: PoolPlan) -> tuple[str, ...]:
    """Training stands in the first one."""
    return plan.zones[:1] if pool.role == "training" else plan.zones


def _quotas(ahead: Ahead) -> Iterator[Look]:
    used, per_zone = ahead.used, translations_wanted(ahead.spec)
    wants: list[tuple[Quota, int, Callable[[], int]]] = [
        (quota, wanted, partial(used.vcpus, quota))
        for quota, wanted in vcpus_wanted(ahead.plan.pools).items()
    ]
    wants.append((NETWORKS, 1, used.networks))
    if per_zone:
        wants.append((ADDRESSES, per_zone * len(ahead.plan.zones), used.addresses))
        wants.append((TRANSLATIONS, per_zone, partial(used.translations, ahead.plan.zones)))
    for quota, wanted, taken in wants:
        yield f"quota {quota.code}", partial(_quota, ahead.api, quota, wanted, taken)


def _quota(api: Api, quota: Quota, wanted: int, used: Callable[[], int]) -> Finding:
    told, taken = _value(api, quota), used()
    found = (
        f"{told.name}: {told.value:g}{quota.unit}, of which others use {taken}; the stack needs up "
        f"to {wanted}"
    )
    if taken + wanted <= told.value:
        return Finding(True, found)
    return Finding(
        False,
        found,
        f"aws service-quotas request-service-quota-increase --service-code {quota.service} "
        f"--quota-code {quota.code} --desired-value {taken + wanted} --region {api.region}",
    )


def _value(api: Api, quota: Quota) -> QuotaValue:
    """The account's own, or AWS's default where it has none of its own."""
    cut, which = (
        "[Quota.{name: QuotaName, value: Value}]",
        {"ServiceCode": quota.service, "QuotaCode": quota.code},
    )
    try:
        [told] = api.shapes(QuotaValue, "service-quotas", "get_service_quota", cut, **which)
    except Missing:
        default = "get_aws_default_service_quota"
        [told] = api.shapes(QuotaValue, "service-quotas", default, cut, **which)
    return told


def _image(ahead: Ahead, parameter: str) -> Finding:
    try:
        [row] = ahead.api.rows("ssm", "get_parameter", "[Parameter.{id: Value}]", Name=parameter)
    except Missing:
        found = f"{ahead.api.region} has no {parameter}"
        return Finding(False, found, "choose another region: AWS publishes no such image in it")
    return Finding(True, f"{row.id}, the newest of {parameter}")


def _reservation(ahead: Ahead, reservation: str) -> Finding:
    """One may hold the nodes of several pools."""
    pools = [pool for pool in ahead.plan.pools if pool.rented.reservation == reservation]
    there = next((one for one in ahead.used.reservations if one.id == reservation), None)
    if there is None:
        return Finding(
            False,
            f"the account has none of that id in {ahead.api.region}",
            f"name one that it has in {at(f'pools.{pools[0].name}.reservation')}",
        )
    free, wanted = there.free + ahead.used.own_in(reservation), sum(map(nodes_most, pools))
    faults = [fault for pool in pools for fault in _misfits(ahead.plan, pool, there)]
    if there.kind == "capacity-block":
        faults.append("name one on demand: nodes of the kit can't start in a capacity block")
    if there.state != "active":
        faults.append("use one that is active")
    if free < wanted:
        faults.append(f"{wanted} are needed at once: make it larger, or the pool smaller")
    return Finding(
        not faults,
        f"{there.state}, {free} of {there.total} {there.type} free in {there.zone}",
        "; ".join(dict.fromkeys(faults)),
    )


def _misfits(plan: Plan, pool: PoolPlan, there: Reservation) -> Iterator[str]:
    [machine], zones = pool.rented.machines, _zones(plan, pool)
    if there.type != machine:
        yield f"reserve {machine}, or name {there.type} in {at(f'pools.{pool.name}.machines')}"
    if there.zone not in zones:
        yield f"reserve in {' or '.join(zones)}, or change {at('cluster.zones')}"


def _certificate(ahead: Ahead, arn: str) -> Finding:
    setting, region, here = at("access.certificate"), arn.split(":")[3], ahead.api.region
    if region != here:
        do = f"name one of {here}, where the balancer stands, in {setting}"
        return Finding(False, f"{arn} is of {region}", do)
    cut = "[Certificate.{id: CertificateArn, name: DomainName, state: Status}]"
    try:
        [row] = ahead.api.rows("acm", "describe_certificate", cut, CertificateArn=arn)
    except Missing:
        return Finding(False, f"the account has no {arn}", f"name one that it has in {setting}")
    found = f"{arn} for {row.name} is {row.state}"
    if row.state == "ISSUED":
        return Finding(True, found)
    return Finding(False, found, f"wait until ACM has issued it, or name another in {setting}")


def _zone(ahead: Ahead, zone: str) -> Finding:
    """Exactly one public zone: which of several clients would ask, nobody here can say."""
    cut = f"HostedZones[?Name=='{zone}.' && !(Config.PrivateZone)].{{id: Id}}"
    ids = [row.id for row in ahead.api.rows("route53", "list_hosted_zones", cut)]
    if len(ids) == 1:
        return Finding(True, f"{ids[0]} is {zone}")
    if ids:
        found = f"Route 53 has several public zones {zone}: {', '.join(ids)}"
        return Finding(False, found, "remove those that the domain is not delegated to")
    return Finding(
        False,
        f"Route 53 has no public zone {zone}",
        f"aws route53 create-hosted-zone --name {zone} --caller-reference atoll, and delegate "
        f"{zone} to its name servers; or set {at('access.tls')} to provided",
    )
