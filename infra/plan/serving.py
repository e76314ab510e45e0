"""Serving spec → the replica and gateway pools' parts of the plan, and their faults."""

from infra.plan.facts import Facts
from infra.plan.fault import Fault
from infra.plan.limits import GATEWAY_PORT, REPLICA_PORT
from infra.plan.spec import ServingSpec, TrainingSpec
from runtime.node_spec import GatewaySpec, ServeSpec

AT = "atoll:serving"


def serve_spec(spec: ServingSpec, training: TrainingSpec, facts: Facts) -> ServeSpec:
    """What a replica is told. More threads than cores slow every replica down, so they share."""
    return ServeSpec(
        model_name=training.model_name,
        max_tokens=spec.max_tokens,
        slots=spec.slots,
        queue=spec.queue,
        drain_s=spec.drain_s,
        threads=spec.threads or max(1, facts.cores // spec.replicas),
        port=REPLICA_PORT,
    )


def gateway_spec(spec: ServingSpec) -> GatewaySpec:
    """What a gateway is told; the digests of the keys are added when they are made."""
    return GatewaySpec(
        replicas=spec.replicas,
        api_key_sha256=(),
        max_tokens=spec.max_tokens,
        drain_s=spec.drain_s,
        port=GATEWAY_PORT,
    )


def serving_faults(spec: ServingSpec, training: TrainingSpec) -> list[Fault]:
    """Settings that conflict with each other."""
    context = training.model.context
    if spec.max_tokens < context:
        return []
    return [
        Fault(
            at=f"{AT}.max_tokens",
            found=f"{spec.max_tokens} with a context of {context}",
            allowed=f"1 to {context - 1}, so that a prompt fits too",
            do="lower it or raise training.model.context",
        )
    ]
