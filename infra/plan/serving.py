"""Serving spec → the replica and gateway pools' parts of the plan, their faults and advice."""

from collections.abc import Iterator

from infra.plan.facts import Facts
from infra.plan.fault import Fault
from infra.plan.limits import DRAIN_S_MAX, GATEWAY_PORT, RENTED_NOTICE_S, REPLICA_PORT
from infra.plan.settings import at
from infra.plan.spec import CloudName, ServingSpec, TrainingSpec
from runtime.limits import DRAIN_NOTICE_S
from runtime.node_spec import GatewaySpec, ServeSpec


def serve_spec(spec: ServingSpec, training: TrainingSpec, cores: int) -> ServeSpec:
    """What a replica is told, that has so many cores: more threads would slow it down."""
    return ServeSpec(
        model_name=training.model_name,
        max_tokens=spec.max_tokens,
        slots=spec.slots,
        queue=spec.queue,
        drain_s=spec.drain_s,
        threads=spec.threads or cores,
        port=REPLICA_PORT,
    )


def gateway_spec(spec: ServingSpec, cloud: CloudName) -> GatewaySpec:
    """What a gateway is told; the digests of the keys are added when they are made."""
    return GatewaySpec(
        replicas=spec.replicas,
        api_key_sha256=(),
        max_tokens=spec.max_tokens,
        drain_s=spec.drain_s,
        notice_s=DRAIN_NOTICE_S if cloud == "local" else RENTED_NOTICE_S,
        port=GATEWAY_PORT,
    )


def serving_faults(spec: ServingSpec, training: TrainingSpec, cloud: CloudName) -> Iterator[Fault]:
    """Settings that conflict with each other or with the place."""
    if cloud != "local" and spec.drain_s > DRAIN_S_MAX:
        yield Fault(
            at=at("serving.drain_s"),
            beside=(at("cluster.cloud"),),
            found=f"{spec.drain_s:g}, longer than a balancer of {cloud} waits",
            allowed=f"at most {DRAIN_S_MAX:g}",
            do="lower it",
        )
    context = training.model.context
    if spec.max_tokens >= context:
        yield Fault(
            at=at("serving.max_tokens"),
            beside=(at("training.model.context"),),
            found=f"{spec.max_tokens} with a context of {context}",
            allowed=f"1 to {context - 1}, so that a prompt fits too",
            do="lower it or raise training.model.context",
        )


def serving_advice(spec: ServingSpec, facts: Facts) -> Iterator[str]:
    """What works, but slower than it could."""
    threads = (spec.threads or 1) * spec.replicas
    if threads > facts.cores:
        yield (
            f"{at('serving.replicas')}: {spec.replicas} engines with {threads} threads share "
            f"{facts.cores} cores; fewer replicas or threads would answer faster on this machine"
        )
