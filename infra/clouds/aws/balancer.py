"""The balancer: an ALB in front of the gateways, patient with streams."""

from dataclasses import dataclass

import pulumi_aws as aws
from pulumi import Input, Output, Resource

from infra.clouds.aws.lookups import zone_name
from infra.clouds.aws.network import Network
from infra.clouds.aws.place import Place
from infra.plan.limits import GATEWAY_PORT, RENTED_NOTICE_S
from infra.plan.network import BalancerPlan
from runtime.limits import KEEP_ALIVE_S, READY_CHECKS_DOWN

# TLS 1.2 and 1.3 with forward secrecy; the API's own default still is one of 2016.
TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-2021-06"
IDLE_S = 60  # gateways ping an open stream far more often
CHECK_S = 5  # the shortest interval that an ALB knows
RECORD_TTL_S = 60

assert CHECK_S * READY_CHECKS_DOWN < RENTED_NOTICE_S, "it must see a gateway leave first"
assert IDLE_S < KEEP_ALIVE_S, "a balancer must give up first, or it meets a reset"


@dataclass(frozen=True, kw_only=True, slots=True)
class Balancer:
    """The endpoint, and the group that gateways are put into."""

    url: Output[str]
    target_group_arn: Output[str]
    metrics_name: Output[str]  # as CloudWatch calls it
    gateways_metrics_name: Output[str]
    last: Resource


def make_balancer(plan: BalancerPlan, drain_s: float, network: Network, place: Place) -> Balancer:
    """Balancer, target group, listener and, for a managed name, certificate and records."""
    balancer = aws.lb.LoadBalancer(
        "balancer",
        name=place.name(),
        load_balancer_type="application",
        internal=False,
        security_groups=[network.balancer],
        subnets=list(network.public),
        idle_timeout=IDLE_S,
        drop_invalid_header_fields=True,
        desync_mitigation_mode="defensive",
        tags=place.tags("balancer"),
        opts=place.after(*network.ways),
    )
    gateways = aws.lb.TargetGroup(
        "gateways",
        name=place.name("gateway"),
        port=GATEWAY_PORT,
        protocol="HTTP",
        vpc_id=network.vpc_id,
        target_type="instance",
        load_balancing_algorithm_type="least_outstanding_requests",
        deregistration_delay=round(drain_s),
        health_check=aws.lb.TargetGroupHealthCheckArgs(
            path="/readyz",
            port="traffic-port",
            protocol="HTTP",
            interval=CHECK_S,
            timeout=CHECK_S - 1,
            healthy_threshold=2,
            unhealthy_threshold=READY_CHECKS_DOWN,
            matcher="200",
        ),
        tags=place.tags("gateway"),
        opts=place.after(),
    )
    listener = _listener(plan, balancer, gateways, place)
    return Balancer(
        url=_url(plan, balancer),
        target_group_arn=gateways.arn,
        metrics_name=balancer.arn_suffix,
        gateways_metrics_name=gateways.arn_suffix,
        last=listener,
    )


def _listener(
    plan: BalancerPlan, balancer: aws.lb.LoadBalancer, gateways: aws.lb.TargetGroup, place: Place
) -> aws.lb.Listener:
    certificate = _certificate(plan, balancer, place)
    has_tls = certificate is not None
    return aws.lb.Listener(
        "endpoint",
        load_balancer_arn=balancer.arn,
        port=plan.port,
        protocol="HTTPS" if has_tls else "HTTP",
        ssl_policy=TLS_POLICY if has_tls else None,
        certificate_arn=certificate,
        default_actions=[
            aws.lb.ListenerDefaultActionArgs(type="forward", target_group_arn=gateways.arn)
        ],
        tags=place.tags("balancer"),
        opts=place.after(),
    )


def _certificate(
    plan: BalancerPlan, balancer: aws.lb.LoadBalancer, place: Place
) -> Input[str] | None:
    access = plan.access
    if access.tls == "none":
        return None
    if access.tls == "provided":
        return access.certificate
    assert access.domain is not None, "refused before"
    return _managed(access.domain, balancer, place)


def _managed(domain: str, balancer: aws.lb.LoadBalancer, place: Place) -> Output[str]:
    """A certificate that ACM makes and renews, proved by a record in the domain's own zone."""
    zone_id = aws.route53.get_zone_output(name=zone_name(domain), opts=place.asking()).zone_id
    certificate = aws.acm.Certificate(
        "endpoint",
        domain_name=domain,
        validation_method="DNS",
        tags=place.tags("balancer"),
        opts=place.after(),
    )
    option = certificate.domain_validation_options[0]
    proof = aws.route53.Record(
        "certificate",
        zone_id=zone_id,
        name=option.resource_record_name,
        type=option.resource_record_type,
        records=[option.resource_record_value],
        ttl=RECORD_TTL_S,
        opts=place.after(),
    )
    aws.route53.Record(
        "endpoint",
        zone_id=zone_id,
        name=domain,
        type="A",
        aliases=[
            aws.route53.RecordAliasArgs(
                name=balancer.dns_name, zone_id=balancer.zone_id, evaluate_target_health=True
            )
        ],
        opts=place.after(),
    )
    return aws.acm.CertificateValidation(
        "endpoint",
        certificate_arn=certificate.arn,
        validation_record_fqdns=[proof.fqdn],
        opts=place.after(),
    ).certificate_arn


def _url(plan: BalancerPlan, balancer: aws.lb.LoadBalancer) -> Output[str]:
    scheme = "http" if plan.access.tls == "none" else "https"
    return Output.concat(f"{scheme}://", plan.access.domain or balancer.dns_name)
